"""Proposals for a project in JavaScript."""

from __future__ import annotations

import re

from engine.starter.hosts import host_of
from engine.starter.project_tree import Project, table, word
from engine.starter.proposals import Findings

DEBIAN_NODE = 20  # the major version of Node.js in Debian 13, and so in the guest
_OWN_SCRIPTS = ("preinstall", "install", "postinstall", "prepare")


def look(project: Project, found: Findings) -> None:
    """Propose the group npm, and an installation with the package manager whose lock file the project has."""
    if project.text("package.json") is None:
        return
    package = project.json("package.json")
    lock = project.first(
        "pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb", "package-lock.json", "npm-shrinkwrap.json"
    )
    found.propose("endpoints", "npm", f"from {lock or 'package.json'}")
    for line in (project.text(".npmrc") or "").splitlines():
        match = re.match(r"\s*(?:@[\w.-]+:)?registry\s*=\s*(\S+)", line)
        if match and (host := host_of(match[1])):
            found.propose("endpoints", host, "a registry in .npmrc")
    _propose_version(project, found, package)
    if lock or table(package, "dependencies") or table(package, "devDependencies"):
        _propose_setup(project, found, package, lock)
        found.local.append("node_modules")


def _propose_setup(project: Project, found: Findings, package: dict[str, object], lock: str | None) -> None:
    manager = (lock or "package-lock.json").partition("-")[0].partition(".")[0]
    named = re.fullmatch(r"(npm|pnpm|yarn|bun)@([0-9][0-9A-Za-z.-]{0,40})(\+.*)?", word(package, "packageManager"))
    version = named[2] if named and named[1] == manager else ""
    if manager in ("pnpm", "yarn", "bun"):
        seen = "from packageManager in package.json" if version else f"from {lock}"
        found.propose("setup", f"sudo npm install -g {manager}{'@' + version if version else ''}", seen)
    ignoring = " --ignore-scripts" if set(_OWN_SCRIPTS) & set(table(package, "scripts")) else ""
    command = {
        "pnpm": "pnpm fetch",  # reads only the lock file of the project
        "yarn": f"yarn install --frozen-lockfile{ignoring}",
        "bun": f"bun install --frozen-lockfile{ignoring}",
    }.get(manager, f"npm {'ci' if lock else 'install'}{ignoring}")
    inputs = project.inputs("package.json", *([lock] if lock else []), "pnpm-workspace.yaml")
    # The packages of a workspace are directories of the project. Without them as inputs the installation fails.
    whole = manager == "pnpm" or not (package.get("workspaces") or project.has("pnpm-workspace.yaml"))
    seen = f"from {lock or 'package.json'}" if whole else "from package.json; its workspaces are inputs, too"
    found.propose("setup", {"run": command, "inputs": inputs}, seen, active=whole)


def _propose_version(project: Project, found: Findings, package: dict[str, object]) -> None:
    tools = dict(re.findall(r"(?m)^(node(?:js)?)[ \t]+(\S+)", project.text(".tool-versions") or ""))
    for version, seen in (
        ((project.text(".nvmrc") or "").strip(), ".nvmrc"),
        ((project.text(".node-version") or "").strip(), ".node-version"),
        (tools.get("nodejs") or tools.get("node") or "", ".tool-versions"),
        (word(package, "engines", "node"), "engines in package.json"),
    ):
        match = re.match(r"[v^~>=\s]{0,10}([0-9]{1,3})(?![0-9])", version)
        if match:
            if int(match[1]) > DEBIAN_NODE:
                text = f"sudo npm install -g node@{match[1]}"
                found.propose("setup", text, f"{seen} asks for it; the machine has {DEBIAN_NODE}", active=False)
            return
