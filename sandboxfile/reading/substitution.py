"""Variables into the values of one source, and from text to numbers where the format wants numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandboxfile.diagnostics import Problem
from sandboxfile.names import SECTIONS
from sandboxfile.positions import KeyPath, render_path
from sandboxfile.reading.document import Document, child, leaves
from sandboxfile.reading.interpolate import BadInterpolation, Substituted, interpolate
from sandboxfile.reading.scalars import UnusableScalar, resolve_scalar
from sandboxfile.reading.source import MAX_EXPANDED, Source
from sandboxfile.reading.variables import Variables

# Shell text and command lines are the guest's to read: its shell knows `$HOME`, this host does not.
_LITERAL_IN_AGENT = ("command", "args")


def is_literal(path: KeyPath) -> bool:
    """Whether the value at `path` of a Sandboxfile keeps its dollar signs."""
    if path[:1] == ("agents",) and len(path) > 2:
        return is_literal(path[2:]) or path[2] in _LITERAL_IN_AGENT
    if path[:1] == ("agent",):
        return len(path) > 1 and path[1] in _LITERAL_IN_AGENT
    if path[:1] == ("setup",):
        return len(path) == 2 or path[2:] == ("run",)
    return isinstance(path[0], str) and path[0].startswith("x-") if path else False


def substitute(source: Source, variables: Variables, *, compose: bool = False) -> None:
    """Replace the variables in the data of `source`; what is wrong with them is added to its problems.

    `compose`: the source is a Compose file, where a variable that nobody set is an empty text and a warning, as Compose
    has it. It is so too in those sections of a Sandboxfile that are Compose's; in its others it is a problem.
    """
    if isinstance(source.data, (dict, list)):
        try:
            _Substitution(source, variables, compose).walk(source.data, ())
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

    def walk(self, value: Any, path: KeyPath) -> None:
        """Replace in place, from the leaves of a mapping or list."""
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            inside = (*path, key)
            if isinstance(item, (dict, list)):
                self.walk(item, inside)
            elif isinstance(item, str) and "$" in item and not (is_literal(inside) and not self._compose):
                value[key] = self._replace(item, inside)

    def _replace(self, text: str, path: KeyPath) -> str:
        try:
            found = interpolate(text, self._variables.look_up, lone_dollars=self._compose)
        except BadInterpolation as error:
            self._problem(path, error.message, error.hint)
            return text
        if path[:1] == ("secrets",) and not self._compose and found.names:
            message = "secrets are not interpolated: this section says where values come from, not what they are"
            self._problem(path, message, "such as {env: NAME}")
            return text
        self._characters += len(found.text)
        if self._characters > MAX_EXPANDED:
            raise _TooMuch(path)
        for name in found.unset:
            self._unset(name, path)
        names = [other for name in found.names for other in (name, *self._variables.behind(name))]
        return Substituted(found.text, tuple(dict.fromkeys(names))) if names else found.text

    def _unset(self, name: str, path: KeyPath) -> None:
        hint = f"set it, or write ${{{name}:-default}}"
        if self._compose or path[0] in SECTIONS:
            warning = Problem(
                path, f"the variable {name} is not set: an empty text takes its place", hint, severity="warning"
            )
            self._source.warnings.append(self._source.diagnose(warning))
        else:
            self._problem(path, f"the variable {name} is not set", hint)

    def _problem(self, path: KeyPath, message: str, hint: str | None) -> None:
        self._source.problems.append(self._source.diagnose(Problem(path, message, hint)))
        self._source.unusable.add(path)


def refuse_secrets(document: Document) -> list[Problem]:
    """A variable that holds a secret's value may not be interpolated: the value would be in the guest."""
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
    """Where a text that variables went into is the wrong kind of value, read it as YAML would have; whether any was."""
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
                wanted = resolve_scalar(value.strip())
            except UnusableScalar:
                continue
            if wanted is not None and not isinstance(wanted, str):
                document.texts[path] = value
                around[path[-1]] = wanted
                changed = True
    return changed
