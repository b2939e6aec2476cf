"""What was meant by a value of the wrong form, and by keys and whole files of other tools: hints for their messages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sandboxfile.diagnostics import quote
from sandboxfile.positions import KeyPath
from sandboxfile.sections.model import Sandbox
from sandboxfile.sections.structure import fields_at

_CONVERT = "`sandbox init --from FILE` converts one"
# Keys of other tools at the top of the file -> what to write here.
_OTHERS = {
    **dict.fromkeys(
        ("image", "build", "container_name"),
        "the machine is Debian, and images are those of services: services: {NAME: {image: ...}}",
    ),
    **dict.fromkeys(("include", "extends"), "services: {include: [FILE]} takes the services of a Compose file"),
    **dict.fromkeys(
        ("environment", "env", "env_file", "containerEnv", "remoteEnv"), "write agent: {env: {NAME: value}}"
    ),
    **dict.fromkeys(("command", "entrypoint", "cmd"), "write agent: {command: [...]}"),
    **dict.fromkeys(
        ("run", "script", "scripts", "steps", "provision", "install", "postCreateCommand", "onCreateCommand", "RUN"),
        "write setup: [COMMAND, ...]",
    ),
    **dict.fromkeys(
        ("cpus", "cpu", "memory", "mem", "disk", "resources", "vm"), "write machine: {cpus: 2, memory: 4GiB}"
    ),
    **dict.fromkeys(("forwardPorts", "portForwards", "expose", "port"), 'write ports: ["3000:3000"]'),
    **dict.fromkeys(("workspace", "workspaces", "workspaceFolder", "workspaceMount"), "write mounts: [.:/workspace]"),
    **dict.fromkeys(("working_dir", "workdir", "cwd"), "the target of the first entry of `mounts` is that"),
    **dict.fromkeys(("user", "remoteUser", "containerUser"), "write agent: {user: NAME}"),
    **dict.fromkeys(("network", "allow", "hosts", "domains", "firewall"), "write endpoints: [HOST, ...]"),
    **dict.fromkeys(("apt", "dependencies", "apt_packages"), "write packages: [NAME, ...]"),
    "features": "write packages: [NAME, ...], or setup: [COMMAND, ...]",
}
_COMPOSE_SECTIONS = {"services", "volumes", "networks", "configs", "secrets", "name", "version", "include"}
_OF_COMPOSE = {"build", "image", "restart", "depends_on", "healthcheck", "environment", "container_name"}
_COMPOSE_VERSION = re.compile(r"[23](\.[0-9]+)?")
_DEV_CONTAINER = {
    "features", "customizations", "forwardPorts", "postCreateCommand", "remoteUser", "dockerComposeFile",
    "workspaceFolder", "onCreateCommand", "containerEnv", "runArgs",
}  # fmt: skip
_SBXENV = {"schemaVersion", "additionalWorkspaces", "kits", "bindings", "kind"}
_TYPOGRAPHIC = ("\u201c", "\u201d", "\u201e", "\u2018", "\u2019", "\u00ab")
_WORDS = re.compile(r"[A-Za-z0-9.][A-Za-z0-9.+_/@-]*")
_GLUED = re.compile(r"(?P<key>[A-Za-z_][\w-]*):(?=\S)")
_ONE_WORD_EACH = {"packages", "profiles", "endpoints", "ports", "hide", "local", "inputs", "methods", "paths"}


def other_tool(data: Any) -> str | None:
    """Which other tool's file this is, as a hint; None where it may well be a Sandboxfile."""
    keys = set(data) if isinstance(data, Mapping) else set()
    services = data.get("services") if keys else None
    entries = list(services.values()) if isinstance(services, Mapping) else []
    of_compose = any(isinstance(entry, Mapping) and _OF_COMPOSE & set(entry) for entry in entries)
    of_compose = of_compose or ("services" in keys and bool(_COMPOSE_VERSION.fullmatch(str(data.get("version")))))
    if of_compose and all(key in _COMPOSE_SECTIONS or key.startswith("x-") for key in keys):
        return "this looks like a Compose file: services: {include: FILE} takes it, or `sandbox init --from FILE`"
    if len(keys & _DEV_CONTAINER) > 1 or (keys & _DEV_CONTAINER and "image" in keys):
        return f"this looks like a dev container: {_CONVERT}"
    if keys & _SBXENV:
        return f"this looks like a file of sbx: {_CONVERT}"
    return None


def other_key(path: KeyPath) -> str | None:
    """What stands here for a key of another tool; None for a key that is of none."""
    return _OTHERS.get(str(path[0])) if len(path) == 1 else None


def as_text(value: Any) -> str | None:
    """The text that a mapping in its place stands for: its first part is taken for a key, because of a colon."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    [(key, rest)] = value.items()
    if isinstance(rest, (Mapping, list)):
        return None
    text = f"{key}: {'' if rest is None else rest}".rstrip()
    return f"quote it: {json.dumps(text, ensure_ascii=False)}"


def is_command(key: str) -> bool:
    """Whether a key is no key, but the beginning of a shell's text."""
    return " " in key.strip() or key.startswith(("/", "./", "$"))


def keyboard_quotes(value: Any) -> str | None:
    """A hint for a text in typographic quotes, which YAML takes for a part of it."""
    return 'write the quotes of the keyboard: "' if isinstance(value, str) and value.startswith(_TYPOGRAPHIC) else None


def as_list(path: KeyPath, value: Any) -> str | None:
    """The list that a value in its place stands for."""
    if isinstance(value, Mapping):
        return "begin each entry with a dash, and a space after it"
    words = [value]
    if isinstance(value, str) and path and path[-1] in _ONE_WORD_EACH:
        words = re.split(r"[\s,]+", value.strip())
    return f"write [{', '.join(_in_flow(word) for word in words)}]" if words != [""] else None


def as_mapping(path: KeyPath, value: Any) -> str | None:
    """The mapping that a value in its place stands for."""
    if isinstance(value, list):
        pairs = [re.fullmatch(r"([A-Za-z_]\w*)[=:] *(.*)", str(each)) for each in value]
        if path[-1:] == ("env",) and pairs and all(pairs) and len(pairs) < 4:
            return f"write {{{', '.join(f'{match[1]}: {json.dumps(match[2])}' for match in pairs if match)}}}"
        return "write NAME: and what belongs to it, without dashes"
    if not isinstance(value, str) or not value.strip():
        return None
    if (glued := _GLUED.match(value)) and glued["key"] in fields_at(Sandbox, path):
        return f"a space is missing after `{glued['key']}:`"
    if path not in (("agent",), ("machine",)):
        return None
    key = "memory" if path == ("machine",) else "use" if re.fullmatch(r"[a-z0-9][a-z0-9-]*", value) else "command"
    return f"write {path[0]}: {{{key}: {_in_flow(value)}}}"


def _in_flow(value: Any) -> str:
    """The value as it stands in brackets: without quotes where it is one plain word."""
    if isinstance(value, str) and not _WORDS.fullmatch(value):
        return quote(value) if "'" not in value else json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
