"""What a local kit of Docker's sandboxes says (spec.yaml, schemaVersion "2" or "3"), as proposals.

Version 2: https://github.com/docker/sbx-kits-contrib/blob/main/spec/SPEC-v2.md, version 3:
https://github.com/docker/sandbox-kit-spec/blob/main/docs/spec/SPEC-v3.md, both read on 2026-11-26.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from engine.errors import EngineError
from engine.starter.conversion import Conversion, clean, literal, read_foreign, slug
from engine.starter.programs import groups_of
from engine.starter.project_tree import table, word
from sandboxfile import SandboxfileError
from sandboxfile.positions import KeyPath

SPECIFICATION = "spec.yaml"
_ARGUMENT = re.compile(r"(\$?)\$\{\{\s*kit\.args\.([A-Za-z_][A-Za-z0-9_-]*)\s*\}\}")
_ROOT = ("", "0", "root")
_PROGRAM = re.compile(r"(?:^|[\s;&|(])([a-z][a-z0-9-]{1,20})(?=\s)")
_REMOTE = re.compile(r"^[a-z+]+:|^[^./]+\.[^/]+/|@sha256:")


def convert_kit(conversion: Conversion, path: KeyPath, source: str) -> None:
    """Propose what the kit in the directory `source` says, or list it as left out, with the reason."""
    directory = conversion.directory / source
    if _REMOTE.search(source) or not (directory / SPECIFICATION).exists():
        conversion.leave_out(path, "only kits in a directory with a spec.yaml are read: this one is somewhere else")
        return
    if not directory.resolve().is_relative_to(conversion.directory.resolve()):
        conversion.leave_out(path, "it is outside the project: `--from` reads nothing there that it is not told of")
        return
    try:
        data = read_foreign(directory / SPECIFICATION).data
    except (EngineError, SandboxfileError) as error:
        conversion.leave_out(path, f"its spec.yaml cannot be read: {error.brief}")
        return
    version = str(data.get("schemaVersion")) if isinstance(data, dict) else ""
    if version not in ("2", "3"):
        conversion.leave_out(path, f'schemaVersion {clean(version)}: "2" and "3" are known here')
        return
    defaults = {name: table(declared).get("default") for name, declared in table(data, "args").items()}
    Kit(conversion, path, source, _with_arguments(data, defaults)).convert(version)


def read_kit(conversion: Conversion, source: str) -> dict[str, Any]:
    """What the spec.yaml of a kit in the project says; nothing for a kit elsewhere, and for one that is broken."""
    directory = conversion.directory / source
    try:
        inside = directory.resolve().is_relative_to(conversion.directory.resolve())
        if _REMOTE.search(source) or not inside or not (directory / SPECIFICATION).is_file():
            return {}
        data = read_foreign(directory / SPECIFICATION).data
    except (EngineError, SandboxfileError, OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _with_arguments(value: Any, defaults: dict[str, Any]) -> Any:
    """The value with each argument of the kit replaced by its default; one without a default stays as it is."""
    if isinstance(value, dict):
        return {key: _with_arguments(item, defaults) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_arguments(item, defaults) for item in value]
    if not isinstance(value, str):
        return value
    return _ARGUMENT.sub(
        lambda match: match[0] if match[1] or defaults.get(match[2]) is None else str(defaults[match[2]]), value
    )


class Kit:
    """One kit that was read. What cannot be carried over is listed at `path` of the converted file."""

    def __init__(self, conversion: Conversion, path: KeyPath, source: str, data: dict[str, Any]) -> None:
        self._conversion = conversion
        self._path = path
        self._data = data
        self._seen = f"from {source}/{SPECIFICATION}".replace("/./", "/")

    def convert(self, version: str) -> None:
        """Propose all that is known of this version."""
        if version == "2":
            self._setup(table(self._data, "setup"))
            self._network(table(self._data, "permissions", "network"))
            for credential in _items(self._data, "credentials"):
                self._credential(credential)
            for name, value in table(self._data, "environment", "variables").items():
                self._conversion.found.propose(("agent", "env", name), literal(value), self._seen)
            for port in _items(self._data, "ports"):
                self._port(port)
            known = {
                "setup",
                "permissions",
                "credentials",
                "environment",
                "ports",
                "args",
                "agentInstructions",
                "extends",
            }
        else:
            for capability in _items(self._data, "capabilities"):
                self._capability(capability)
            if self._data.get("build") or self._data.get("dockerfile") or self._data.get("kits"):
                self._leave_out("its image (build, dockerfile, kits): what it installs belongs into packages and setup")
            known = {"capabilities", "build", "dockerfile", "kits", "args", "provides", "author", "iconUrl"}
        named = {"schemaVersion", "kind", "name", "version", "displayName", "description", "sourceURL", "sourceUrl"}
        rest = sorted(set(map(str, self._data)) - known - named - {"licenses", "locked"})
        if rest:
            self._leave_out(f"of the kit: {', '.join(rest)}")
        if self._data.get("agentInstructions"):
            self._leave_out("agentInstructions: write them into the agent's own file")

    def _capability(self, capability: dict[str, Any]) -> None:
        kind = word(capability, "type").rpartition("/")[2].partition("@")[0]
        config = table(capability, "config")
        if kind == "network-policy":
            for phase in ("install", "runtime"):
                self._network(table(config, phase))
        elif kind == "credential":
            self._credential(config)
        elif kind == "lifecycle":
            self._setup(config)
        else:
            self._leave_out(f"capability {clean(kind or 'without a type')}: it has no counterpart")

    def _setup(self, setup: dict[str, Any]) -> None:
        for step in _items(setup, "install"):
            command = step.get("command")
            text = shlex.join(map(str, command)) if isinstance(command, list) else str(command or "")
            if not text.strip() or "${{" in text:
                self._leave_out("a step of install needs an argument that has no default")
                continue
            as_root = str(step.get("user") or "") in _ROOT
            run = clean(f"sudo sh -c {shlex.quote(text)}" if as_root else text)
            self._conversion.found.propose("setup", run, self._seen)
            for group in groups_of(_PROGRAM.findall(text)):
                self._conversion.found.propose("endpoints", group, self._seen)
        if _items(setup, "startup"):
            self._leave_out("startup: nothing runs at each start but the agent")
        for file in _items(setup, "files"):
            self._leave_out(f"files: {clean(word(file, 'path'))}: write it in a step of setup")

    def _network(self, network: dict[str, Any]) -> None:
        for host in network.get("allow") or () if isinstance(network.get("allow"), list) else ():
            if isinstance(host, str):
                self._conversion.found.propose("endpoints", clean(host), self._seen)
        for host in network.get("deny") or () if isinstance(network.get("deny"), list) else ():
            if isinstance(host, str):
                self._conversion.found.propose("endpoints", {"host": clean(host), "deny": True}, self._seen)

    def _credential(self, credential: dict[str, Any]) -> None:
        service, key = word(credential, "service"), table(credential, "apiKey")
        name, variable = slug(service), word(key, "name")
        if not name or not variable:
            self._leave_out(f"credential {clean(service)}: it has no apiKey; `sandbox secret` keeps logins")
            return
        self._conversion.found.propose(("secrets", name), {"env": clean(variable)}, self._seen)
        for injection in _items(key, "inject"):
            if host := word(injection, "domain"):
                self._conversion.found.propose("endpoints", {"host": clean(host), "secret": name}, self._seen)

    def _port(self, port: dict[str, Any]) -> None:
        number = port.get("container")
        if isinstance(number, int) and not isinstance(number, bool) and word(port, "protocol") in ("", "tcp"):
            self._conversion.found.propose("ports", number, self._seen)
        else:
            self._leave_out("a port: only TCP ports can be published")

    def _leave_out(self, reason: str) -> None:
        self._conversion.leave_out(self._path, reason)


def _items(data: Any, key: str) -> list[dict[str, Any]]:
    value = data.get(key) if isinstance(data, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def kit_sources(kits: Any) -> Iterator[tuple[KeyPath, str]]:
    """The place and the source of each kit that an environment file names."""
    for index, entry in enumerate(kits if isinstance(kits, list) else ()):
        source = entry if isinstance(entry, str) else word(entry, "source")
        yield ("kits", index), source
