"""The starter file for an agent of the user's own, made up from its definition where the user has written none."""

from __future__ import annotations

from engine.agents.definition import AgentDefinition
from sandboxfile.quantities import GIB


def starter_for(definition: AgentDefinition) -> str:
    """A Sandboxfile for this agent: its hosts, and the first kind of credential that it has."""
    credential = next(iter(definition.credentials.values()), None)
    carried = {injection.host for injection in credential.inject} if credential else set()
    lines = [
        f"# {definition.summary.rstrip('.')}.",
        "#   sandbox up        start it, with the agent in this terminal",
        "#   sandbox down      stop it and leave nothing behind",
        'version: "1"',
        "",
        "agent:",
        f"  use: {definition.name}",
        "",
    ]
    if definition.machine.memory > 2 * GIB:
        lines += ["machine:", f"  memory: {-(-definition.machine.memory // GIB)}GiB", ""]
    lines += [
        "# The only directory of this host that the machine sees, live. The first one is the working directory.",
        "mounts:",
        "  - .:/workspace",
        "",
    ]
    if definition.hosts:
        lines += [
            "# The only names that the machine can reach. What it asked for in vain: `sandbox journal --refused`."
        ]
        lines += ["endpoints:"]
        for needed in definition.hosts:
            host = f'"{needed.host}"' if needed.host.startswith("*") else needed.host
            secret = f", secret: {credential.secret}" if credential and needed.host in carried else ""
            lines.append(f"  - {{host: {host}{secret}}}" if secret else f"  - {host}")
        lines.append("")
    if credential:
        lines += [
            "# Where your key is. The machine gets a placeholder; requests get the real one on the way out.",
            "secrets:",
            f"  {credential.secret}: {{env: {credential.source.env[0]}}}",
            "",
        ]
    return "\n".join(lines)
