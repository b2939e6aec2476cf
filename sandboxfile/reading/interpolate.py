"""`${VAR}` in values, by the rules of the Compose specification.

`$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`, `${NAME?message}`, `${NAME:+instead}`,
`${NAME+instead}`. With the colon an empty variable counts as not set. Defaults may contain variables. `$$` is a dollar
sign. Dollar signs in the value of a variable mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from sandboxfile.diagnostics import quote

MAX_NESTING = 16  # levels of variables in defaults
MAX_LENGTH = 256 * 1024  # characters of one value

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


class BadInterpolation(ValueError):
    """A value cannot be interpolated. `message` says why, `hint` what to write instead."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Substituted(str):
    """A text that was made with the variables `names`. It can become a number or a boolean where one is needed."""

    __slots__ = ("names",)
    names: tuple[str, ...]

    def __new__(cls, text: str, names: tuple[str, ...]) -> Substituted:
        value = super().__new__(cls, text)
        value.names = names
        return value


class Interpolated(NamedTuple):
    """The text, the variables that were looked up, and those among them that are not set and have no default."""

    text: str
    names: tuple[str, ...]
    unset: tuple[str, ...]


Lookup = Callable[[str], str | None]


def interpolate(text: str, look_up: Lookup, *, lone_dollars: bool = False) -> Interpolated:
    """`text` with its variables replaced. `look_up` returns the value of a variable, None for one that is not set.

    Raises BadInterpolation for a `$` that begins no variable; with `lone_dollars` such a `$` stands for itself, as in
    Compose. Raises it also for `${NAME:?message}`, with that message, when NAME is not set.
    """
    reader = _Reader(text, look_up, lone_dollars)
    value, _ = reader.until(0, end=None, depth=0, used=True)
    return Interpolated(value, tuple(dict.fromkeys(reader.names)), tuple(dict.fromkeys(reader.unset)))


def escape(text: str) -> str:
    """`text` with its dollar signs escaped, so that interpolating the result gives `text` again."""
    return text.replace("$", "$$")


class _Reader:
    def __init__(self, text: str, look_up: Lookup, lone_dollars: bool) -> None:
        self._text = text
        self._look_up = look_up
        self._lone_dollars = lone_dollars
        self._length = 0
        self.names: list[str] = []
        self.unset: list[str] = []

    def until(self, index: int, end: str | None, depth: int, used: bool) -> tuple[str, int]:
        """The value from `index` to the character `end` (None: the end of the text), and the index after that.

        `used` is False for a default that is not needed: it is read only to find its end.
        """
        if depth > MAX_NESTING:
            raise BadInterpolation(f"variables are nested deeper than {MAX_NESTING} levels")
        parts: list[str] = []
        text = self._text
        while index < len(text):
            if text[index] == end:
                return "".join(parts), index + 1
            if text[index] != "$":
                stop = index + 1
                while stop < len(text) and text[stop] != "$" and text[stop] != end:
                    stop += 1
                part, index = text[index:stop], stop
            elif text.startswith("$$", index):
                part, index = "$", index + 2
            else:
                part, index = self._variable(index + 1, depth, used)
            parts.append(part)
            self._length += len(part) if used else 0
            if self._length > MAX_LENGTH:
                raise BadInterpolation(f"the value becomes longer than {MAX_LENGTH // 1024} KiB")
        if end is not None:
            raise BadInterpolation("a ${ is never closed", "write $$ for a dollar sign")
        return "".join(parts), index

    def _variable(self, index: int, depth: int, used: bool) -> tuple[str, int]:
        braced = self._text.startswith("{", index)
        match = _NAME.match(self._text, index + braced)
        if match is None and self._lone_dollars and not braced:
            return "$", index
        if match is None:
            shown = quote(self._text[index - 1 : index + 8])
            raise BadInterpolation(
                f"no variable's name follows the dollar sign in {shown}", "write $$ for a dollar sign"
            )
        name, index = match.group(), match.end()
        if not braced:
            return self._plain(name, used), index
        if self._text.startswith("}", index):
            return self._plain(name, used), index + 1
        operator = next((sign for sign in _OPERATORS if self._text.startswith(sign, index)), None)
        if operator is None and index >= len(self._text):
            raise BadInterpolation(f"${{{name} has no closing brace", f"write ${{{name}}}, or $$ for a dollar sign")
        if operator is None:
            message = f"${{{name} is followed by {quote(self._text[index : index + 8])}"
            raise BadInterpolation(message, f"such as ${{{name}:-default}}, or $$ for a dollar sign")
        return self._operation(name, operator, index + len(operator), depth, used)

    def _plain(self, name: str, used: bool) -> str:
        value = self._value(name) if used else ""
        if value is None:
            self.unset.append(name)
        return value or ""

    def _operation(self, name: str, operator: str, index: int, depth: int, used: bool) -> tuple[str, int]:
        value = self._value(name) if used else None
        missing = value is None or (operator.startswith(":") and value == "")
        kind = operator[-1]
        word_used = used and (missing if kind in "-?" else not missing)
        word, index = self.until(index, "}", depth + 1, word_used)
        if not used:
            return "", index
        if kind == "?" and missing:
            raise BadInterpolation(f"the variable {name} is not set" + (f": {word}" if word else ""), f"set {name}")
        if kind == "+":
            return (word if word_used else ""), index
        return (word if missing else value or ""), index

    def _value(self, name: str) -> str | None:
        self.names.append(name)
        return self._look_up(name)
