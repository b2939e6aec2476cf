"""Proposals for a project in JavaScript.

The live mount hides what a step has put below it, so no step leaves `node_modules` there: it is moved to the root
directory, where Node.js looks, too, for every project on the machine. Where a package manager wants its own directory
in the project (workspaces, pnpm, Yarn 2 and later), the step fills its cache, and installing in the machine is quick.
"""

from __future__ import annotations

import posixpath
import re

from engine.starter import node_sources
from engine.starter.hosts import host_of
from engine.starter.project_tree import Project, table, word, words
from engine.starter.proposals import Findings
from engine.starter.versions import asked_version, is_newer, shown

LOCKS = ("pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb", "package-lock.json", "npm-shrinkwrap.json")
_MANAGERS = {"pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn", "bun.lock": "bun", "bun.lockb": "bun"}
_OWN_SCRIPTS = ("preinstall", "install", "postinstall", "prepare")
_MOVED = "&& mkdir -p node_modules && sudo mv node_modules /"


def look(project: Project, found: Findings) -> None:
    """Propose the group npm, and an installation with the package manager whose lock file the project has."""
    if project.text("package.json") is None:
        return
    package = project.json("package.json")
    lock = project.first(*LOCKS)
    found.propose("endpoints", "npm", f"from {lock or 'package.json'}")
    for name, pattern in ((".npmrc", r"\s*(?:@[\w.-]+:)?registry\s*=\s*(\S+)"), (".yarnrc.yml", _SERVER)):
        for line in (project.text(name) or "").splitlines():
            match = re.match(pattern, line)
            if match and (host := host_of(match[1])):
                found.propose("endpoints", host, f"a registry in {name}")
    node_sources.propose_sources(project, found, package)
    _propose_version(project, found, package)
    if lock or any(table(package, key) for key in node_sources.DEPENDENCIES):
        _propose_setup(project, found, package, lock)
        found.keep_local(project.root, "node_modules")


_SERVER = r"\s*[\"']?npmRegistryServer[\"']?\s*:\s*[\"']?([^\s\"']+)"


def _propose_setup(project: Project, found: Findings, package: dict[str, object], lock: str | None) -> None:
    named = re.fullmatch(r"(npm|pnpm|yarn|bun)@([0-9][0-9A-Za-z.-]{0,40})(\+.*)?", word(package, "packageManager"))
    manager = _MANAGERS.get(lock or "") or (named[1] if named and not lock else "npm")
    version = named[2] if named and named[1] == manager else ""
    berry = manager == "yarn" and _is_berry(project, version)
    for run in _manager(manager, version or _writer(project, manager), berry):
        seen = "from packageManager in package.json" if version else f"from {lock or 'package.json'}"
        found.propose("setup", run, seen)
    if manager == "yarn" and not berry:
        node_sources.propose_yarn_hosts(project, found)
    run, effect = _install(project, package, manager, lock, berry)
    inputs = _inputs(project, lock, berry)
    missing = _add_members(project, package, manager, inputs)
    seen = f"from {lock or 'package.json'}; {missing or effect}"
    found.propose("setup", {"run": run, "inputs": list(dict.fromkeys(inputs))}, seen, active=not missing)


def _is_berry(project: Project, version: str) -> bool:
    """Whether the project uses Yarn 2 or later, which is another program than Yarn 1."""
    if version:
        return int(re.match("[0-9]{1,4}", version)[0]) >= 2  # type: ignore[index]
    return "__metadata:" in (project.text("yarn.lock") or "") or project.text(".yarnrc.yml") is not None


def _writer(project: Project, manager: str) -> str:
    """The version that writes the project's lock file as it is: a newer one wants to change it, and may not.

    "" for the newest one.
    """
    lock, pattern = _FORMATS.get(manager, ("", ""))
    match = re.search(pattern, project.text(lock) or "") if lock else None
    return _WRITERS[manager].get(match[1], "") if match else ""


# By what each version has written: Yarn 4.13, 4.14 and 4.15 have three formats.
_FORMATS = {
    "yarn": ("yarn.lock", r"(?m)^__metadata:\s{1,9}version: ([0-9]{1,3})\b"),
    "pnpm": ("pnpm-lock.yaml", r"(?m)^lockfileVersion: '?([0-9]{1,3})\."),
}
_WRITERS = {"yarn": {"4": "2", "6": "3", "8": "4.13", "9": "4.14"}, "pnpm": {"5": "7", "6": "8"}}


def _manager(manager: str, version: str, berry: bool) -> list[str]:
    """The commands that install a package manager, and let it use the registry that npm is configured with."""
    at = f"@{version}" if version else ""
    if berry:  # the package that corepack takes, too: `yarn` of that registry ends with Yarn 1
        registry = '"$(npm config get registry)"'
        return [f"sudo npm install -g @yarnpkg/cli-dist{at} && yarn config set --home npmRegistryServer {registry}"]
    if manager == "pnpm":  # pnpm would look for its store on the disk of the project, which is a mount later
        return [f"sudo npm install -g pnpm{at} && pnpm config set store-dir /home/agent/.pnpm-store"]
    return [f"sudo npm install -g {manager}{at}"] if manager in ("yarn", "bun") else []


def _install(
    project: Project, package: dict[str, object], manager: str, lock: str | None, berry: bool
) -> tuple[str, str]:
    """The command that installs what the project needs, and what it leaves in the machine."""
    shared = bool(package.get("workspaces"))
    ignoring = " --ignore-scripts" if shared or set(_OWN_SCRIPTS) & set(table(package, "scripts")) else ""
    if manager == "pnpm":  # reads only the lock file of the project
        return ("pnpm fetch", "`pnpm install --offline` is quick then") if lock else ("pnpm install", "fills its store")
    if berry:
        frozen = " --immutable" if lock else ""
        return f"yarn install{frozen} --mode=skip-build", "fills its cache: `yarn install` is quick then"
    command = {
        "yarn": f"yarn install{' --frozen-lockfile' if lock else ''}{ignoring}",
        "bun": f"bun install{' --frozen-lockfile' if lock else ''}{ignoring}",
    }.get(manager, f"npm {'ci' if lock else 'install'}{ignoring}")
    if shared:
        return command, f"fills its cache: `{manager} install` is quick then"
    if manager == "yarn":  # for scripts, npm and bun look into every node_modules above; yarn does not
        return f"{command} {_MOVED} && sudo ln -s /node_modules/.bin/* /usr/local/bin/ || test -d /node_modules", _WHERE
    return f"{command} {_MOVED}", _WHERE


_WHERE = "in /node_modules no mount hides it, and Node.js looks there, too"


def _inputs(project: Project, lock: str | None, berry: bool) -> list[str]:
    inputs = project.inputs("package.json", *([lock] if lock else []), "pnpm-workspace.yaml")
    if berry:
        inputs += _without_token(project, ".yarnrc.yml")
        inputs += [f".yarn/{name}" for name in ("releases", "plugins", "patches") if project.has(f".yarn/{name}")]
    inputs += [name for name in ("patches",) if project.has(name)]
    return inputs + _without_token(project, ".npmrc")


def _without_token(project: Project, name: str) -> list[str]:
    """The file, if it is there and has no credential: that is nothing for the machine."""
    text = project.text(name)
    return [] if text is None or re.search("(?i)_auth|_password|token", text) else [name]


def _add_members(project: Project, package: dict[str, object], manager: str, inputs: list[str]) -> str:
    """Add what the members of a workspace, and dependencies in directories, have to the inputs.

    Returns why the step cannot run without more inputs; "" when it can.
    """
    if manager == "pnpm":
        return ""
    shared = package.get("workspaces")
    members = words(shared) or words(table(package, "workspaces").get("packages"))
    manifests = [path for member in members for path in project.matching(f"{posixpath.normpath(member)}/package.json")]
    if shared and not manifests:
        return "its workspaces are inputs, too"
    inputs += manifests
    for key in node_sources.DEPENDENCIES:
        for value in table(package, key).values():
            match = re.match(r"(?:file|link|portal):(?:\./)?([^\s]{1,200})", value) if isinstance(value, str) else None
            if match:
                path = posixpath.normpath(match[1])
                if path.startswith(("..", "/")) or not project.has(path):
                    return f"{path} is an input, too, and is not in the project"
                inputs.append(path)
    return ""


def _propose_version(project: Project, found: Findings, package: dict[str, object]) -> None:
    engines = (word(package, "engines", "node"), "engines in package.json")
    asked = asked_version(project, "node", (".nvmrc", ".node-version"), [engines])
    if asked and is_newer(asked, "node"):
        text = f"sudo npm install -g node@{asked.numbers[0]}"
        why = f"{asked.seen} asks for {asked.numbers[0]}; the machine has {shown('node')}"
        found.propose("setup", text, why, active=False)
