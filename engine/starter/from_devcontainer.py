"""From a devcontainer.json to a Sandboxfile.

A dev container is one container with an editor in it; a sandbox is a machine. The settings that make the container
(image, build, run arguments) have no counterpart in a Sandboxfile. The settings for what happens in it have one.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

from engine.starter.assembly import TARGET
from engine.starter.containers import propose_images
from engine.starter.conversion import HOST_COMMAND, Conversion, clean, guest_path, scalar, slug
from engine.starter.features import PACKAGE_LISTS, PACKAGES, short_name
from engine.starter.including import include_problems, note_variables
from engine.starter.missing_files import missing_file
from engine.starter.obstacles import obstacle
from engine.starter.programs import groups_of, programs_in
from engine.starter.project_tree import Project, table, word, words
from engine.starter.registries import propose_registry
from engine.starter.versions import DEBIAN, shown
from sandboxfile.quantities import MIB, format_size, parse_size
from sandboxfile.reading.interpolate import escape
from sandboxfile.reading.source import read_source

_CONTAINER = "the machine is Debian 13: what the image is for goes into packages and setup"
_EDITOR = "it is for an editor"
_NOT_CARRIED = {
    "image": _CONTAINER,
    "build": _CONTAINER,
    "dockerFile": _CONTAINER,
    "context": _CONTAINER,
    "capAdd": "in the machine the agent may do anything",
    "privileged": "in the machine the agent may do anything",
    "securityOpt": "in the machine the agent may do anything",
    "init": "the machine has an init",
    "runServices": "all services are started",
    "initializeCommand": HOST_COMMAND,
    "postStartCommand": "nothing runs at each start but the agent",
    "postAttachCommand": "nothing runs at each start but the agent",
    "waitFor": "`up` waits for all of setup",
    "customizations": _EDITOR,
    "extensions": _EDITOR,
    "settings": _EDITOR,
    "devPort": _EDITOR,
    "portsAttributes": _EDITOR,
    "otherPortsAttributes": _EDITOR,
    "userEnvProbe": _EDITOR,
    "overrideCommand": "there is no container whose command it could replace",
    "shutdownAction": "`sandbox down` ends it",
    "updateRemoteUserUID": "what the machine writes in a mount belongs to the user of this host",
    "overrideFeatureInstallOrder": "packages have no order",
    "secrets": "name them in `secrets`, and in the endpoints that they are for",
    "workspaceMount": "the directory of the new file is mounted",
}
_SILENT = ("$schema",)
_SETUP = ("onCreateCommand", "updateContentCommand", "postCreateCommand")

_VARIABLE = re.compile(r"\$\{([A-Za-z]+)(?::([^}:]*))?(?::([^}]*))?\}")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_CREDENTIAL = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE|CREDENTIAL", re.IGNORECASE)

# Program -> the files of the project that its commands read.
_READ_BY = {
    "npm": ("package.json", "package-lock.json"),
    "pnpm": ("package.json", "pnpm-lock.yaml", "pnpm-workspace.yaml"),
    "yarn": ("package.json", "yarn.lock"),
    "bun": ("package.json", "bun.lock", "bun.lockb"),
    "uv": ("pyproject.toml", "uv.lock"),
    "poetry": ("pyproject.toml", "poetry.lock"),
    "bundle": ("Gemfile", "Gemfile.lock"),
    "make": ("Makefile",),
    "configure": ("Makefile", "Makefile.in", "config.status"),
}


def convert_devcontainer(conversion: Conversion) -> None:
    """Add to the findings what the file says.

    Its commands run in the project's directory, its paths start at its own.
    """
    convert: dict[str, Callable[[str], None]] = {
        "name": lambda key: _name(conversion),
        "dockerComposeFile": lambda key: _compose(conversion),
        "features": lambda key: _features(conversion),
        "containerEnv": lambda key: _environment(conversion, key),
        "remoteEnv": lambda key: _environment(conversion, key),
        "forwardPorts": lambda key: _ports(conversion, key),
        "appPort": lambda key: _ports(conversion, key),
        "mounts": lambda key: _mounts(conversion),
        "service": lambda key: None,  # read with dockerComposeFile
        "workspaceFolder": lambda key: None,  # read with the mounts
        "remoteUser": lambda key: _user(conversion, key),
        "containerUser": lambda key: _user(conversion, key),
        "hostRequirements": lambda key: _requirements(conversion),
        "runArgs": lambda key: _run_arguments(conversion),
        **{key: lambda key: None for key in (*_SILENT, *_SETUP)},
    }
    odd = [key for key, value in conversion.data.items() if not _is_usual(key, value)]
    for key in odd:
        conversion.leave_out((key,), f"it is no {' or '.join(_KINDS[kind] for kind in _USUAL[key])}")
    _workspace(conversion)
    for key, value in conversion.data.items():
        if key in convert:
            if key not in odd and value is not None:
                convert[key](key)
        else:
            conversion.leave_out((key,), _NOT_CARRIED.get(key, "it is no property that is known here"))
    for key in _SETUP:  # in the order in which they run
        if key in conversion.data and key not in odd:
            _command(conversion, key, conversion.data[key])


_KINDS: dict[type, str] = {str: "text", list: "list", dict: "mapping", int: "number"}
# The kinds of value that the format has for each property that is carried over.
_USUAL: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "service", "workspaceFolder", "remoteUser", "containerUser"), (str,)),
    **dict.fromkeys(("features", "containerEnv", "remoteEnv", "hostRequirements"), (dict,)),
    **dict.fromkeys(("mounts", "runArgs"), (list,)),
    **dict.fromkeys(("forwardPorts", "appPort"), (int, str, list)),
    **dict.fromkeys(_SETUP, (str, list, dict)),
    "dockerComposeFile": (str, list),
}


def _is_usual(key: str, value: Any) -> bool:
    """Whether the value is of a kind that the property has. null is nothing, and no mistake."""
    if key not in _USUAL or value is None:
        return True
    return isinstance(value, _USUAL[key]) and not isinstance(value, bool)


def _name(conversion: Conversion) -> None:
    if made := slug(word(conversion.data, "name")):
        conversion.found.propose("name", made, "from name")


def _workspace(conversion: Conversion) -> None:
    """Propose to mount the project at the path of `workspaceFolder`, which its commands may use."""
    folder = conversion.data.get("workspaceFolder")
    if not isinstance(folder, str):
        return
    text = folder.replace("${localWorkspaceFolderBasename}", conversion.target.name)
    target = guest_path(text)
    if target is None or "$" in target:
        conversion.leave_out(("workspaceFolder",), f"the project is mounted on {TARGET}")
    elif target != TARGET:
        conversion.found.propose("mounts", {"source": ".", "target": clean(target)}, "from workspaceFolder")


def _target(conversion: Conversion) -> str:
    mounts = [proposal.value for proposal in conversion.found.proposals if proposal.section == "mounts"]
    return str(mounts[0]["target"]) if mounts and mounts[0]["source"] == "." else TARGET


def _compose(conversion: Conversion) -> None:
    value = conversion.data["dockerComposeFile"]
    files = [conversion.inside(name) for name in ([value] if isinstance(value, str) else words(value))]
    kept = [file for file in files if file is not None]
    if not kept or len(kept) != len(files):
        conversion.leave_out(("dockerComposeFile",), "it leads out of the project")
        return
    include = kept[0] if len(kept) == 1 else kept
    project = Project(conversion.target, conversion.found.note)
    sources = [read_source(project.text(file) or "", file) for file in kept]
    sources = [source for source in sources if source.readable]
    name = word(conversion.data, "service")
    own = name if any(name in table(source.data, "services") for source in sources) else None
    problems = include_problems(conversion.found, include, conversion.target / "Sandboxfile.yaml", own)
    if problems:
        reason = f"{problems[0].message}; `sandbox init --from {kept[0]}` converts what can be"
        conversion.leave_out(("dockerComposeFile",), reason)
        return
    conversion.found.propose(("services", "include"), include, "from dockerComposeFile")
    note_variables(conversion.found, "the Compose file")
    if own is not None:
        _replace_service(conversion, own, [table(source.data, "services") for source in sources])
    for source in sources:
        propose_images(project, conversion.found, source, posixpath.dirname(source.file), without=[own] if own else ())


def _replace_service(conversion: Conversion, name: str, services: list[dict[str, Any]]) -> None:
    """Leave out the service that is the dev container itself: the agent takes its place, and its environment."""
    conversion.found.propose(("services", name), None, "the dev container itself: the agent works in its place")
    environment: dict[str, Any] = {}
    for each in services:
        variables = table(each.get(name)).get("environment")
        environment |= variables if isinstance(variables, dict) else dict(_pairs(",".join(words(variables))))
    for key, value in environment.items():
        if _ENVIRONMENT_NAME.fullmatch(str(key)) and isinstance(value, (str, int, float, bool)):
            conversion.found.propose(("agent", "env", str(key)), scalar(value), f"from {name} in its Compose file")
    others = sorted({other for each in services for other in each} - {name})
    if others:
        conversion.found.note(
            f"{', '.join(others)}: the machine reaches a service at localhost, by a port that it publishes in `ports`;"
            " its name is known to other services only"
        )


def _features(conversion: Conversion) -> None:
    for feature, options in table(conversion.data, "features").items():
        name, path = short_name(feature), ("features", feature)
        packages: tuple[str, ...] | None = PACKAGES.get(name)
        if name in PACKAGE_LISTS:
            packages = tuple(re.findall(r"[a-z0-9][a-z0-9+.-]+", word(options, "packages")))
        if packages is None:
            conversion.leave_out(path, "there is no Debian package that is known to stand for it")
            continue
        for package in packages:
            conversion.found.propose("packages", package, f"from features: {name}")
        version = options if isinstance(options, str) else word(options, "version")
        if version not in ("", "latest", "lts", "stable", "os-provided", "none"):
            conversion.leave_out(path, f"version {clean(version)}: the machine has Debian's{_has(name)}")
        if str(table(options).get("installMaven", "")).lower() == "true":
            conversion.found.propose("packages", "maven", f"from features: {name}")


def _has(name: str) -> str:
    """The version that the machine has of what a feature installs, where that is known."""
    return f", which is {shown(name)}" if name in DEBIAN else ""


def _command(conversion: Conversion, key: str, value: Any) -> None:
    """Propose the steps of a command: a shell's text, a list of words, or a mapping with one of these for each step."""
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, (str, list)):
                _step(conversion, (key, name), item)
            elif item is not None:
                conversion.leave_out((key, name), "it is no text or list")
    elif isinstance(value, (str, list)) and value:
        _step(conversion, (key,), value)


def _step(conversion: Conversion, path: tuple[str, ...], value: str | list[Any]) -> None:
    command = clean(value if isinstance(value, str) else shlex.join(map(str, value)))
    command = command.replace("${containerWorkspaceFolder}", _target(conversion))
    if not command.strip():
        return
    if re.search(r"\$\{(localWorkspaceFolder|localEnv|containerEnv|devcontainerId)", command):
        conversion.leave_out(path, "it uses variables of the host, or of a container")
        return
    found, project = conversion.found, Project(conversion.target, conversion.found.note)
    tokens = [token.removeprefix(f"{_target(conversion)}/") for token in _tokens(command)]
    script = _script(project, tokens)
    inputs = _inputs(project, [*tokens, *(name for program in programs_in(script) for name in program.names)])
    step: dict[str, Any] = {"run": command} | ({"inputs": inputs} if inputs else {})
    if {"pip", "pip3"} & set(tokens):
        step["env"] = {"PIP_BREAK_SYSTEM_PACKAGES": "1"}  # otherwise pip refuses to change Debian's own Python
    reason = obstacle(tokens, command, script)
    inside = command.replace(f"{_target(conversion)}/", "./")
    if not reason and (missing := missing_file(project, inside)):
        reason = f"the project has no {missing}"
    remark = f"from {path[0]}; {reason}" if reason else f"from {path[0]}"
    found.propose("setup", step if len(step) > 1 else command, remark, active=not reason)
    for group in groups_of(tokens):
        found.propose("endpoints", group, f"for {path[0]}")
    for program in programs_in(f"{command}\n{script}"):
        for package in program.packages:
            found.propose("packages", package, f"for {path[0]}")
        for registry in program.registries:
            propose_registry(found, registry, path[0])


def _script(project: Project, tokens: list[str]) -> str:
    """The text of the first program that a command runs, where that is a file of the project; "" when it is not."""
    words = [token for token in tokens if token not in ("sudo", "bash", "sh") and not token.startswith("-")]
    text = project.text(words[0]) if words and ("/" in words[0] or words[0].endswith(".sh")) else None
    return text or ""


def _tokens(command: str) -> list[str]:
    try:
        tokens = shlex.split(command, comments=False)
    except ValueError:
        tokens = command.split()
    return [token.strip(";&|()").removeprefix("./") for token in tokens[:200]]


def _inputs(project: Project, tokens: Iterable[str]) -> list[str]:
    """The files of the project that a command seems to read: those that it names, and those of its package managers."""
    names: list[str] = []
    for bare in tokens:
        names += _READ_BY.get(bare, ())
        if (
            re.fullmatch(r"(?!-)[A-Za-z0-9._/-]{1,200}", bare)
            and ("." in bare or "/" in bare or bare == "configure")
            and ".." not in bare.split("/")
        ):
            names.append(bare)
    return list(dict.fromkeys(name for name in project.inputs(*names) if not name.startswith("/")))


def _environment(conversion: Conversion, key: str) -> None:
    for name, value in table(conversion.data, key).items():
        path = (key, name)
        text = None if isinstance(value, (dict, list)) or value is None else _text(conversion, path, scalar(value))
        if text is None:
            if value is None:
                conversion.leave_out(path, "a variable cannot be unset")
            elif isinstance(value, (dict, list)):
                conversion.leave_out(path, "it is no text")
        elif not _ENVIRONMENT_NAME.fullmatch(name):
            conversion.leave_out(path, "it is no name of a variable")
        else:
            conversion.found.propose(("agent", "env", name), text, f"from {key}")


def _text(conversion: Conversion, path: tuple[str | int, ...], text: str) -> str | None:
    """The text with the variables of this format written as ours.

    Where a variable has no counterpart, returns None, and the value is listed as left out.
    """
    parts, end = [], 0
    for match in _VARIABLE.finditer(text):
        kind, name, default = match.groups()
        parts.append(escape(text[end : match.start()]))
        end = match.end()
        if kind == "localEnv" and name and _ENVIRONMENT_NAME.fullmatch(name):
            if _CREDENTIAL.search(name):
                reason = f"{name} looks like a credential: name it in `secrets`, and the hosts that get it in endpoints"
                conversion.leave_out(path, reason)
                return None
            parts.append(f"${{{name}:-{escape(default or '').replace('}', '')}}}")
        elif kind == "containerWorkspaceFolder":
            parts.append(_target(conversion))
        elif kind == "localWorkspaceFolderBasename":
            parts.append(escape(conversion.target.name))
        else:
            conversion.leave_out(path, f"{clean(match[0])} has no counterpart")
            return None
    return clean("".join(parts) + escape(text[end:]))


def _ports(conversion: Conversion, key: str) -> None:
    value = conversion.data[key]
    for index, port in enumerate(value if isinstance(value, list) else [value]):
        path = (key, index) if isinstance(value, list) else (key,)
        match = re.fullmatch(r"(?:localhost:|127\.0\.0\.1:)?(?:([0-9]{1,5}):)?([0-9]{1,5})", str(port))
        at_service = re.fullmatch(r"([A-Za-z][A-Za-z0-9_.-]{0,60}):([0-9]{1,5})", str(port))
        if match is None and at_service and "dockerComposeFile" in conversion.data:
            number = at_service[2]
            entry = {"ports": [f"{number}:{number}"]}  # the machine reaches a service by a port that it publishes
            conversion.found.propose(("services", at_service[1]), entry, f"from {key}")
        elif isinstance(port, bool) or match is None:
            reason = "publish it in `ports` of that service" if re.match(r"[A-Za-z]", str(port)) else "it is no port"
            conversion.leave_out(path, reason)
        else:
            conversion.found.propose("ports", f"{match[1] or match[2]}:{match[2]}", f"from {key}")


def _mounts(conversion: Conversion) -> None:
    value = conversion.data["mounts"]
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        path = ("mounts", index)
        mount = entry if isinstance(entry, dict) else dict(_pairs(str(entry)))
        kind, source = word(mount, "type") or "volume", word(mount, "source") or word(mount, "src")
        target = guest_path(word(mount, "target") or word(mount, "dst") or word(mount, "destination"))
        prefix = "${localWorkspaceFolder}"
        if kind != "bind":
            conversion.leave_out(path, "volumes are on the machine's own disk already")
        elif target is None or "$" in target:
            conversion.leave_out(path, "it has no target that is a path")
        elif not source.startswith(prefix) or "$" in source[len(prefix) :] or ".." in source.split("/"):
            conversion.leave_out(path, "it is outside the project: add it to `mounts` if the machine may have it")
        else:
            inner = str(PurePosixPath(source[len(prefix) :].lstrip("/") or "."))
            proposal = {"source": "." if inner == "." else f"./{clean(inner)}", "target": clean(target)}
            if "readonly" in mount or "ro" in mount:
                proposal["mode"] = "ro"
            if not any(other.section == "mounts" for other in conversion.found.proposals):
                conversion.found.propose("mounts", {"source": ".", "target": TARGET}, "")
            conversion.found.propose("mounts", proposal, "from mounts")


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(name.strip(), value) for name, _, value in (part.partition("=") for part in text.split(","))]


def _user(conversion: Conversion, key: str) -> None:
    if conversion.data[key] == "root":
        conversion.found.propose(("agent", "user"), "root", f"from {key}")
    else:
        conversion.leave_out((key,), "the machine's user is `agent`, with sudo")


def _run_arguments(conversion: Conversion) -> None:
    for index, argument in enumerate(words(conversion.data["runArgs"])):
        name = argument.partition("=")[0]
        if name.startswith("-"):
            reason = _RUN_ARGUMENTS.get(name, "there is no container to start")
            conversion.leave_out(("runArgs", index), f"{clean(name)}: {reason}")


_FREE = "in the machine the agent may do anything"
_RUN_ARGUMENTS = {
    "--gpus": "the machine has no GPU",
    "--device": "the machine has no devices of this host",
    **dict.fromkeys(("-v", "--volume", "--mount"), "directories of this host are in `mounts`"),
    **dict.fromkeys(("-p", "--publish"), "ports are in `ports`"),
    **dict.fromkeys(("-e", "--env", "--env-file"), "variables are in `agent.env`"),
    **dict.fromkeys(("--network", "--net"), "the machine reaches what `endpoints` names"),
    **dict.fromkeys(("--cap-add", "--privileged", "--security-opt", "--init"), _FREE),
}


def _requirements(conversion: Conversion) -> None:
    for key, value in table(conversion.data, "hostRequirements").items():
        path = ("hostRequirements", key)
        if key == "cpus" and isinstance(value, int) and not isinstance(value, bool):
            conversion.found.propose(("machine", "cpus"), value, "from hostRequirements")
        elif key in ("memory", "storage") and (size := _size(value)):
            conversion.found.propose(("machine", "disk" if key == "storage" else key), size, "from hostRequirements")
        else:
            conversion.leave_out(path, "the machine has no GPU" if key == "gpu" else "it is no size that is known here")


def _size(value: Any) -> str | None:
    """A size such as `8gb`, which is 8 GiB in this format, as we write it. A bare number is bytes. None for no size."""
    text = str(value).strip().lower()
    try:
        size = int(text[:20]) if text.isdecimal() else parse_size(text.removesuffix("b"))
    except ValueError:
        return None
    return format_size(max(size // MIB, 1) * MIB)
