"""Replacing variables in the values of a source, and reading the results as numbers where the format needs numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sandboxfile.diagnostics import Problem
from sandboxfile.names import SECTIONS
from sandboxfile.positions import KeyPath, Position, render_path
from sandboxfile.reading.document import Document, child, leaves
from sandboxfile.reading.interpolate import BadInterpolation, Substituted, interpolate
from sandboxfile.reading.scalars import UnusableScalar, resolve_scalar
from sandboxfile.reading.source import MAX_EXPANDED, Source
from sandboxfile.reading.variables import Variables

# In shell text and command lines, variables belong to the guest: `$HOME` there is that of the guest's shell.
_LITERAL_IN_AGENT = ("command", "args")


def is_literal(path: KeyPath) -> bool:
    """Whether variables in the value at `path` of a Sandboxfile are not replaced."""
    if path[:1] == ("agents",) and len(path) > 2:
        return is_literal(path[2:]) or path[2] in _LITERAL_IN_AGENT
    if path[:1] == ("agent",):
        return len(path) > 1 and path[1] in _LITERAL_IN_AGENT
    if path[:1] == ("setup",):
        return len(path) == 2 or path[2:] == ("run",)
    return isinstance(path[0], str) and path[0].startswith("x-") if path else False


def substitute(source: Source, variables: Variables, *, compose: bool = False) -> None:
    """Replace the variables in the data of `source`; problems with them are added to those of the source.

    In a Compose file (`compose`), and in the Compose sections of a Sandboxfile, a variable that is not set becomes an
    empty text, with a warning, as in Compose. In all other sections it is a problem.
    """
    if isinstance(source.data, (dict, list)):
        try:
            substitution = _Substitution(source, variables, compose)
            substitution.walk(source.data, ())
            substitution.carry(source.data)
        except _TooMuch as error:
            message = f"the variables make the file larger than {MAX_EXPANDED // 1024} KiB"
            source.problems.append(source.diagnose(Problem(error.path, message)))
            source.readable = False


class _TooMuch(Exception):
    def __init__(self, path: KeyPath) -> None:
        self.path = path


class _Substitution:
    def __init__(self, source: Source, variables: Variables, compose: bool) -> None:
        self._source = source
        self._variables = variables
        self._compose = compose
        self._characters = 0
        self._warned: set[object] = set()

    def walk(self, value: Any, path: KeyPath) -> None:
        """Replace the variables in all texts within a mapping or list, in place."""
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            inside = (*path, key)
            if isinstance(item, (dict, list)):
                self.walk(item, inside)
            elif isinstance(item, str) and "$" in item and not (is_literal(inside) and not self._compose):
                value[key] = self._replace(item, inside)

    def carry(self, data: Any) -> None:
        """Give the names without a value in `environment` and `build.args` of services the values of variables."""
        services = data.get("services") if isinstance(data, dict) else None
        for name, service in services.items() if isinstance(services, dict) else ():
            place: KeyPath = ("services", name)
            if not isinstance(service, dict):
                continue
            # A file of `env_file` may have a value for a name that the host has none for.
            elsewhere = bool(service.get("env_file"))
            self._carry(service.get("environment"), (*place, "environment"), elsewhere)
            build = service.get("build")
            if isinstance(build, dict):
                self._carry(build.get("args"), (*place, "build", "args"), True)

    def _carry(self, entries: Any, path: KeyPath, elsewhere: bool) -> None:
        if isinstance(entries, dict):
            bare = [(key, key) for key, value in entries.items() if value is None and is_name(key)]
        elif isinstance(entries, list):
            bare = [(at, name) for at, name in enumerate(entries) if is_name(name)]
        else:
            return
        for key, name in bare:
            if (*path, key) in self._source.tags:
                continue
            value = self._variables.look_up(name)
            if value is not None:
                self._characters += len(value)
                if self._characters > MAX_EXPANDED:
                    raise _TooMuch((*path, key))
                text = value if isinstance(entries, dict) else f"{name}={value}"
                entries[key] = Substituted(text, (name, *self._variables.behind(name)))
            elif not elsewhere:
                message = f"the variable {name} is not set: the container does not get it"
                hint = "set it in .env or the environment, or give it a value here"
                self._warn(Problem((*path, key), message, hint, severity="warning"))

    def _warn(self, warning: Problem) -> None:
        found = self._source.diagnose(warning)
        if (written := (found.position, found.message)) not in self._warned:
            self._warned.add(written)
            self._source.warnings.append(found)

    def _replace(self, text: str, path: KeyPath) -> str:
        try:
            result = interpolate(text, self._variables.look_up, lone_dollars=self._compose)
        except BadInterpolation as error:
            self._problem(path, error.message, error.hint, self._dollar(path))
            return text
        if path[:1] == ("secrets",) and not self._compose and result.names:
            message = "secrets are not interpolated: this section says where values come from, not what they are"
            self._problem(path, message, "such as {env: NAME}")
            return text
        self._characters += len(result.text)
        if self._characters > MAX_EXPANDED:
            raise _TooMuch(path)
        if result.unset:
            self._source.unset[path] = result.unset
        for name in result.unset:
            self._unset(name, path)
        names = [other for name in result.names for other in (name, *self._variables.behind(name))]
        return Substituted(result.text, tuple(dict.fromkeys(names))) if names else result.text

    def _unset(self, name: str, path: KeyPath) -> None:
        hint = f"set it, or write ${{{name}:-default}}"
        if self._compose or path[0] in SECTIONS:
            message = f"the variable {name} is not set: an empty text takes its place"
            self._warn(Problem(path, message, hint, severity="warning"))
        else:
            self._problem(path, f"the variable {name} is not set", hint, self._dollar(path, name))

    def _dollar(self, path: KeyPath, name: str = "") -> Position | None:
        """Where the variable begins in the line of the value; None where it is not in that line."""
        position = self._source.positions.of_value(path)
        if position is None or path not in self._source.positions or position.line > len(self._source.lines):
            return position
        line = self._source.lines[position.line - 1]
        found = re.compile(rf"(?<!\$)(?:\$\$)*(\$\{{?{re.escape(name)})").search(line, position.column - 1)
        return Position(position.line, found.start(1) + 1) if found else position

    def _problem(self, path: KeyPath, message: str, hint: str | None, position: Position | None = None) -> None:
        found = self._source.diagnose(Problem(path, message, hint))
        if position is not None and position != found.position:
            found = self._source.at(position, message, hint, path)
        self._source.problems.append(found)
        self._source.unusable.add(path)


def is_name(value: Any) -> bool:
    """Whether an entry of `environment` is the name of a variable alone, whose value is that of the host's."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) is not None


def refuse_secrets(document: Document) -> list[Problem]:
    """A problem for each value with a variable that holds a secret: the secret would get into the guest."""
    secrets = document.data.get("secrets")
    named = {
        entry["env"]: name
        for name, entry in (secrets.items() if isinstance(secrets, dict) else ())
        if isinstance(entry, dict) and isinstance(entry.get("env"), str)
    }
    if not named:
        return []
    return [
        Problem(
            path,
            f"{variable} is the value of {render_path(('secrets', named[variable]))}, which must not enter the machine",
            "name the secret in an endpoint's `secret`: the gateway puts it into requests",
        )
        for path, value in leaves(document.data)
        if isinstance(value, Substituted)
        for variable in value.names
        if variable in named
    ]


def read_as_wanted(document: Document, problems: Iterable[Problem]) -> bool:
    """Read texts from variables as YAML would have, where `problems` say that the value has the wrong type.

    Returns whether any value was changed.
    """
    changed = False
    for path in {problem.path for problem in problems}:
        if not path:
            continue
        around = document.data
        for key in path[:-1]:
            around = child(around, key)
        value = child(around, path[-1])
        if isinstance(value, Substituted):
            try:
                resolved = resolve_scalar(value.strip())
            except UnusableScalar:
                continue
            if resolved is not None and not isinstance(resolved, str):
                document.texts[path] = value
                around[path[-1]] = resolved
                changed = True
    return changed
