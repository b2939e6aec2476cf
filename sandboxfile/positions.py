"""The place of every value of a file, by its path."""

from __future__ import annotations

import re
from typing import NamedTuple

KeyPath = tuple[str | int, ...]
"""The keys and indexes that lead from the root of the file to one value: `("mounts", 2, "target")`."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Position(NamedTuple):
    """A place in a text. Both numbers count characters from 1, as editors do."""

    line: int
    column: int


class Positions:
    """The places of all keys and values of one file."""

    def __init__(self) -> None:
        self._values: dict[KeyPath, Position] = {}
        self._keys: dict[KeyPath, Position] = {}

    def add(self, path: KeyPath, value: Position, key: Position | None = None) -> None:
        self._values[path] = value
        if key is not None:
            self._keys[path] = key

    def __contains__(self, path: KeyPath) -> bool:
        return path in self._values

    def of_value(self, path: KeyPath) -> Position | None:
        """The place of the value at `path`, or of the nearest value around it."""
        return self._values.get(self.nearest(path))

    def of_key(self, path: KeyPath) -> Position | None:
        """The place of the key that leads to `path`; for list items and unknown paths the place of the value."""
        return self._keys.get(path) or self.of_value(path)

    def nearest(self, path: KeyPath) -> KeyPath:
        """The longest beginning of `path` that is in the file.

        The fields of a short form have no place of their own: they are several in the model and one string in the file.
        """
        while path and path not in self._values:
            path = path[:-1]
        return path


def render_path(path: KeyPath) -> str:
    """The path as text: `mounts[2].target` for `("mounts", 2, "target")`. Unusual keys are quoted, in brackets."""
    text = ""
    for segment in path:
        if isinstance(segment, int):
            text += f"[{segment}]"
        elif _PLAIN_KEY.fullmatch(segment):
            text += f".{segment}" if text else segment
        else:
            text += f"[{segment!r}]"
    return text
