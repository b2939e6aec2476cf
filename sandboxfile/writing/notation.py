"""Writing values as YAML text as people do: without quotes where that is safe, on one line where it fits."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandboxfile.diagnostics import printable
from sandboxfile.reading.scalars import UnusableScalar, resolve_scalar

LINE_WIDTH = 100  # a value that does not fit is written as a block

# Words that every reader of YAML reads as this text, even inside brackets.
_PLAIN = re.compile(r"[A-Za-z0-9_./~](?:[A-Za-z0-9_./~@+=*-]|:(?=[^\s:])| (?=[A-Za-z0-9_./~-]))*")
# Words that readers of YAML 1.1 read as a boolean, a number (3000:30 is one, to the base of 60) or a date.
_SURPRISES = re.compile(
    r"y|n|yes|no|on|off|[-+]?[0-9][0-9_.:]*|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*",
    re.IGNORECASE,
)
_ESCAPES = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"}


@dataclass(frozen=True)
class Hand:
    """The style of a file: the `quote` around strings that need one (or around all), and `step` columns for a level."""

    quote: str = '"'
    quotes_all: bool = False
    step: int = 2

    def scalar(self, value: str | int | float | bool | None) -> str:
        """A scalar on one line, with quotes if it needs them."""
        if not isinstance(value, str):
            return json.dumps(value)
        if not self.quotes_all and _is_plain(value):
            return value
        if self.quote == "'" and value.isprintable():
            return "'" + value.replace("'", "''") + "'"
        return f'"{printable(value.translate(_ESCAPES))}"'

    def flow(self, value: Any) -> str:
        """Any plain data on one line, in brackets."""
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{self.scalar(name)}: {self.flow(item)}" for name, item in value.items()) + "}"
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(map(self.flow, value)) + "]"
        return self.scalar(value)

    def entry(self, name: str, value: Any, column: int, *, block: bool = False) -> list[str]:
        """`name: value` as lines for a mapping at `column`: one line if that fits, unless `block` is set."""
        line = f"{self.scalar(name)}: {self.flow(value)}"
        if not isinstance(value, Mapping) or not value or (column + len(line) <= LINE_WIDTH and not block):
            return [line]
        return [f"{self.scalar(name)}:", *(" " * self.step + line for line in self.block(value, column + self.step))]

    def block(self, value: Mapping[str, Any], column: int) -> list[str]:
        """The entries of a mapping as lines."""
        return [line for name, item in value.items() for line in self.entry(name, item, column)]


def _is_plain(text: str) -> bool:
    if not _PLAIN.fullmatch(text) or _SURPRISES.fullmatch(text):
        return False
    try:
        return isinstance(resolve_scalar(text), str)
    except UnusableScalar:
        return False
