"""From an environment file of Docker's `sbx env` (sbxenv.yaml, schemaVersion "1") to a Sandboxfile."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from engine.agents.definition import AgentDefinition
from engine.errors import EngineError
from engine.starter.assembly import TARGET
from engine.starter.conversion import HOST_COMMAND, Conversion, clean, literal, slug
from engine.starter.kits import convert_kit, kit_sources, read_kit
from engine.starter.project_tree import table, word
from sandboxfile.quantities import format_size, parse_size

# Services whose credentials belong to no agent -> the variable with the value, and the hosts that get it.
_KNOWN_SERVICES = {"github": ("GH_TOKEN", ("api.github.com",))}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# The directory of the file; the other one is that of the project, and `--from` knows only one.
_REFERENCE = re.compile(r"(\$?)\$\{\{\s*env\.(?:args\.([A-Za-z_][A-Za-z0-9_-]*)|(projectDir|fileDir))\s*\}\}")
_OTHER = re.compile(r"(?<!\$)\$\{\{\s*([^}]{0,60}?)\s*\}\}")
# A variable of the host, in a name or a path. `~` stands for the home directory there already.
_VARIABLE = re.compile(r"(\$?)\$(?:([A-Za-z_]\w{0,99})|\{([A-Za-z_]\w{0,99})(?::?-([^${}]{0,200}))?\})")
_HOME = re.compile(r"\A\$(?:HOME\b|\{HOME\})(?=/|\Z)")
_OPTIONS = {
    "template": "the machine is Debian 13; packages and setup are for what an image would have",
    "pullPolicy": "there is no image to pull",
    "profile": "there are no governance profiles",
    "shareSkills": "nothing of the user's is shared but what `mounts` lists",
    "display": "the machine has no display",
    "gpu": "the machine has no GPU",
    "usb": "the machine has no USB devices",
    "writableEnvFiles": "the Sandboxfile is never writable from the machine by that",
}


def convert_sbxenv(conversion: Conversion, agents: Iterable[AgentDefinition]) -> None:
    """Add to the findings what the environment file says. Raises EngineError (exit code 2) for another version."""
    data = conversion.data
    if str(data.get("schemaVersion")) != "1":
        message = f'{conversion.source.file} is no environment file with schemaVersion "1"'
        raise EngineError(message, hint="that is the only version that is known here", exit_code=2)
    agents = tuple(agents)
    convert: dict[str, Callable[[], None]] = {
        "name": lambda: _name(conversion),
        "agent": lambda: _agent(conversion, agents),
        "args": lambda: _args(conversion),
        "workspace": lambda: _workspace(conversion),
        "additionalWorkspaces": lambda: _additional(conversion),
        "env": lambda: _env(conversion),
        "sandboxOptions": lambda: _options(conversion),
        "secrets": lambda: _secrets(conversion, agents),
        "ports": lambda: _ports(conversion),
        "kits": lambda: _kits(conversion),
        "bindings": lambda: _bindings(conversion, agents),
        "registries": lambda: _each(conversion, "registries", "images are pulled without credentials"),
        "lifecycle": lambda: _lifecycle(conversion),
        "mcp": lambda: _mcp(conversion),
        "schemaVersion": lambda: None,
    }
    if "workspace" not in data:
        conversion.found.mount = "none"
    for key in data:
        if key in convert:
            convert[key]()
        else:
            conversion.leave_out((key,), "it is no field of this format that is known here")


def _name(conversion: Conversion) -> None:
    given = conversion.data["name"]
    name = _place(conversion, ("name",), given, conversion.directory.name) if isinstance(given, str) else None
    if name is not None and (made := slug(name)):
        conversion.found.propose("name", made, "from name" if made == given else f"from name: {clean(str(given))}")
    elif name is not None or not isinstance(given, str):
        conversion.leave_out(("name",), "it has no letters or digits")


def _agent(conversion: Conversion, agents: tuple[AgentDefinition, ...]) -> None:
    name = _value(conversion, ("agent",), conversion.data["agent"], "")
    if name is None:
        return
    known = _known(name, agents) or _known(_extended(conversion, name), agents)
    conversion.found.agent = "shell" if name == "shell" else known
    if conversion.found.agent is None:
        reason = f"there is no agent {clean(name)[:60]!r} here: `sandbox init --list` has those there are"
        conversion.leave_out(("agent",), reason)


def _known(name: str, agents: Iterable[AgentDefinition]) -> str | None:
    return next((agent.name for agent in agents if name and (name == agent.name or name in agent.aliases)), None)


def _extended(conversion: Conversion, name: str) -> str:
    """The agent that a kit of the project extends, which is called `name` or lies there; "" where there is none."""
    sources = [source for _, source in kit_sources(conversion.data.get("kits"))]
    for source in [name, *sources]:
        kit = read_kit(conversion, source)
        if kit and (source == name or word(kit, "name") == name):
            return word(kit, "extends")
    return ""


def _args(conversion: Conversion) -> None:
    used = set(_used(conversion.data))
    for name, declared in table(conversion.data, "args").items():
        if table(declared).get("default") is None:
            conversion.leave_out(("args", name), "it has no default; what uses it was left out, too")
        elif name in used:
            conversion.leave_out(("args", name), "its default was written where it is used")
        else:
            conversion.leave_out(("args", name), "nothing in this file uses it")


def _used(value: Any) -> Iterator[str]:
    """The names of the arguments that any text below `value` refers to."""
    if isinstance(value, str):
        yield from (match[2] for match in _REFERENCE.finditer(value) if match[2] and not match[1])
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _used(item)


def _value(conversion: Conversion, path: tuple[str | int, ...], value: Any, directory: str) -> str | None:
    """A scalar as text, with each argument replaced by its default, and the project's directory by `directory`.

    For an argument without a default, another expression, and a value that is no scalar, returns None and lists the
    value as left out.
    """
    if isinstance(value, (dict, list)) or value is None:
        conversion.leave_out(path, "it is no text")
        return None
    arguments = table(conversion.data, "args")
    missing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        if match[3]:
            return directory
        default = table(arguments.get(match[2])).get("default")
        if default is None:
            missing.append(f"the argument {match[2]}, which has no default")
        return str(default).lower() if isinstance(default, bool) else str(default)

    given = str(value).lower() if isinstance(value, bool) else str(value)
    missing += [f"`{other}`, which has no counterpart" for other in _OTHER.findall(_REFERENCE.sub("", given))]
    text = _REFERENCE.sub(replace, given)
    if missing:
        conversion.leave_out(path, f"it needs {clean(missing[0])}")
        return None
    return clean(text)


def _place(conversion: Conversion, path: tuple[str | int, ...], value: Any, directory: str) -> str | None:
    """The same for a name or a path, in which variables of the host are replaced by their defaults.

    A variable without a default has its value on this host alone: what needs it is listed as left out.
    """
    text = _value(conversion, path, value, directory)
    if text is None:
        return None
    missing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        if match[4] is None:
            missing.append(match[2] or match[3])
        return match[4] or ""

    text = _VARIABLE.sub(replace, _HOME.sub("~", text))
    if missing:
        conversion.leave_out(path, f"it needs the variable {missing[0]} of this host")
        return None
    return text


def _workspace(conversion: Conversion) -> None:
    workspace = conversion.data["workspace"]
    path = _place(conversion, ("workspace",), _path_of(workspace), ".")
    if not path or not path.strip():
        return
    mount = {"source": conversion.relative(path), "target": TARGET}
    if isinstance(workspace, dict) and workspace.get("clone") is True:
        mount["mode"] = "clone"
    conversion.found.propose("mounts", mount, "from workspace")


def _path_of(workspace: Any) -> Any:
    return workspace.get("path") if isinstance(workspace, dict) else workspace


def _additional(conversion: Conversion) -> None:
    entries = conversion.data["additionalWorkspaces"]
    targets = {TARGET}
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, str):
            entry = {"path": entry}
        path = _place(conversion, ("additionalWorkspaces", index), table(entry).get("path"), ".")
        if not path:
            continue
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", posixpath.basename(posixpath.normpath(path))).strip(".-") or "directory"
        target = next(name for name in _numbered(f"/workspaces/{base}") if name not in targets)
        targets.add(target)
        mount = {"source": conversion.relative(path), "target": target}
        if entry.get("readOnly") is True:
            mount["mode"] = "ro"
        conversion.found.propose("mounts", mount, "from additionalWorkspaces")


def _numbered(name: str) -> Iterable[str]:
    yield name
    yield from (f"{name}-{number}" for number in range(2, 1000))


def _env(conversion: Conversion) -> None:
    for name, value in table(conversion.data, "env").items():
        text = _value(conversion, ("env", name), value, TARGET)
        if text is not None:
            conversion.found.propose(("agent", "env", name), literal(text), "from env")


def _options(conversion: Conversion) -> None:
    for key, value in table(conversion.data, "sandboxOptions").items():
        path = ("sandboxOptions", key)
        if key not in ("cpus", "memory"):
            conversion.leave_out(path, _OPTIONS.get(key, "it is no option that is known here"))
        elif (text := _value(conversion, path, value, TARGET)) is None:
            continue
        elif key == "memory":
            try:
                conversion.found.propose(("machine", "memory"), format_size(parse_size(text)), "from sandboxOptions")
            except ValueError as error:
                conversion.leave_out(path, str(error))
        elif text.isdecimal() and int(text[:4]) > 0:
            conversion.found.propose(("machine", "cpus"), int(text[:4]), "from sandboxOptions")
        elif text != "0":
            conversion.leave_out(path, "it is no number")


def _secrets(conversion: Conversion, agents: tuple[AgentDefinition, ...]) -> None:
    for service, source in table(conversion.data, "secrets").items():
        path = ("secrets", service)
        variable, hosts = _where(conversion, service, agents)
        name = slug(service)
        for key in table(source):
            reason = {
                "command": f"{HOST_COMMAND}: put what it prints into {variable}",
                "value": f"the value itself was not copied: put it into {variable}",
                "ref": f"vaults are not asked: put the value into {variable}",
            }.get(key, "it is about the source")
            conversion.leave_out((*path, key), reason)
        if not hosts or not name:
            conversion.leave_out(path, "nothing says which host it is for: add an endpoint with this secret")
            continue
        _propose_secret(conversion, name, variable, hosts, "from secrets")


def _bindings(conversion: Conversion, agents: tuple[AgentDefinition, ...]) -> None:
    """Propose what has a binding and no entry in `secrets`: the user of the file has kept that one himself."""
    for service in table(conversion.data, "bindings"):
        if service in table(conversion.data, "secrets"):
            continue
        variable, hosts = _where(conversion, service, agents)
        if hosts and (name := slug(service)):
            _propose_secret(conversion, name, variable, hosts, "from bindings")
        else:
            conversion.leave_out(("bindings", service), "nothing says which host it is for")


def _propose_secret(conversion: Conversion, name: str, variable: str, hosts: Iterable[str], seen: str) -> None:
    conversion.found.propose(("secrets", name), {"env": variable}, seen)
    for host in hosts:
        conversion.found.propose("endpoints", {"host": host, "secret": name}, seen)


def _where(conversion: Conversion, service: str, agents: tuple[AgentDefinition, ...]) -> tuple[str, tuple[str, ...]]:
    """The variable of the user that has the service's credential, and the hosts that it is sent to."""
    bound = table(conversion.data, "bindings", service)
    domains = [host for kind in bound.values() for host in table(kind).get("domains") or () if isinstance(host, str)]
    for agent in agents:
        for credential in agent.credentials.values():
            if credential.secret == service:
                known = tuple(injection.host for injection in credential.inject)
                return credential.source.env[0], tuple(dict.fromkeys(domains)) or known
    fallback = re.sub(r"[^A-Za-z0-9]+", "_", service).strip("_").upper() or "SECRET"
    variable, hosts = _KNOWN_SERVICES.get(service, (f"{fallback}_TOKEN" if not fallback[0].isdigit() else "TOKEN", ()))
    return variable, tuple(dict.fromkeys(domains)) or hosts


def _ports(conversion: Conversion) -> None:
    ports = conversion.data["ports"]
    for index, port in enumerate(ports if isinstance(ports, list) else ()):
        path = ("ports", index)
        guest, host = (_number(conversion, (*path, key), table(port).get(key)) for key in ("sandbox", "host"))
        if guest is None:
            conversion.leave_out(path, "it names no port of the sandbox")
        elif word(port, "protocol").startswith("udp"):
            conversion.leave_out((*path, "protocol"), "only TCP ports can be published")
        else:
            if (address := word(port, "hostIP")) and address not in _LOOPBACK:
                conversion.leave_out((*path, "hostIP"), "ports are offered on this host's loopback address only")
            conversion.found.propose("ports", guest if host is None else f"{host}:{guest}", "from ports")


def _number(conversion: Conversion, path: tuple[str | int, ...], value: Any) -> int | None:
    text = None if value is None else _value(conversion, path, value, TARGET)
    return int(text) if text and text.isdecimal() and len(text) < 6 else None


def _lifecycle(conversion: Conversion) -> None:
    for phase, commands in table(conversion.data, "lifecycle").items():
        for index, _ in enumerate(commands if isinstance(commands, list) else ()):
            conversion.leave_out(("lifecycle", phase, index), HOST_COMMAND)


def _mcp(conversion: Conversion) -> None:
    servers = table(conversion.data, "mcp").get("servers")
    for index, _ in enumerate(servers if isinstance(servers, list) else ()):
        conversion.leave_out(("mcp", "servers", index), "there is no MCP gateway: give it to the agent's own settings")


def _kits(conversion: Conversion) -> None:
    for path, given in kit_sources(conversion.data["kits"]):
        if source := _value(conversion, path, given, "."):
            convert_kit(conversion, path, source)


def _each(conversion: Conversion, key: str, reason: str) -> None:
    entries = conversion.data[key]
    for name in entries if isinstance(entries, dict) else range(len(entries)) if isinstance(entries, list) else ():
        conversion.leave_out((key, name), reason)
