"""The values of several files together, each with the place where it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sandboxfile.diagnostics import Diagnostic, Problem
from sandboxfile.positions import KeyPath, Position
from sandboxfile.reading.source import Source, Tag


@dataclass(slots=True)
class Placed:
    """A value, and the place where it is written. The value is a scalar, or a mapping or list of placed values.

    A value with the tag `reset` is none: it removes what lower layers have in its place.
    """

    value: Any
    source: Source
    path: KeyPath
    tag: Tag | None = None


def place(value: Any, source: Source, path: KeyPath = ()) -> Placed:
    """Plain data, which stands in `source` at `path`, as placed values."""
    tag = source.tags.get(path) if source.tags else None
    if isinstance(value, dict):
        return Placed({key: place(item, source, (*path, key)) for key, item in value.items()}, source, path, tag)
    if isinstance(value, list):
        return Placed([place(item, source, (*path, index)) for index, item in enumerate(value)], source, path, tag)
    return Placed(value, source, path, tag)


def plain(placed: Placed) -> Any:
    """The plain data, without the places, and without keys that are reset."""
    if isinstance(placed.value, dict):
        return {key: plain(item) for key, item in placed.value.items() if item.tag != "reset"}
    if isinstance(placed.value, list):
        return [plain(item) for item in placed.value]
    return placed.value


@dataclass
class Document:
    """The data of one or more sources, with the places of its values."""

    main: Source
    data: Any
    root: Placed | None = field(default=None, repr=False)  # None: every value is in `main`, at its own path
    texts: dict[KeyPath, str] = field(default_factory=dict, repr=False)  # those that became numbers or booleans

    @classmethod
    def of(cls, root: Placed, main: Source) -> Document:
        """The document of a tree of placed values. `main` is the file that paths without a place are reported in."""
        return cls(main, plain(root), root)

    def tree(self) -> Placed:
        """The data as placed values."""
        return self.root or place(self.data, self.main)

    def locate(self, path: KeyPath) -> tuple[Source, KeyPath]:
        """The source of the value at `path`, and the path of the value there.

        For a value that is not written anywhere, they are those of the nearest value around it.
        """
        if self.root is None:
            return self.main, path
        here, rest = self.root, path
        while rest:
            step = child(here.value, rest[0])
            if step is None:
                break
            here, rest = step, rest[1:]
        return here.source, (*here.path, *rest)

    def diagnose(self, problem: Problem) -> Diagnostic:
        """The problem as a diagnostic, with its place and its path in the file where it is written."""
        source, path = self.locate(problem.path)
        return source.diagnose(problem._replace(path=path))

    def is_unusable(self, path: KeyPath) -> bool:
        """Whether the value at `path` is only a stand-in for one that has been reported as unusable."""
        source, at = self.locate(path)
        return bool(source.unusable) and any(at[:length] in source.unusable for length in range(len(at) + 1))

    def position(self, path: KeyPath) -> tuple[Source, Position | None]:
        """The source and the position of the value at `path`."""
        source, at = self.locate(path)
        return source, source.positions.of_value(at)


def child(value: Any, key: str | int) -> Any:
    """The member of a mapping or list; None when there is none."""
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(value):
        return value[key]
    return None


def has_path(data: Any, path: KeyPath) -> bool:
    """Whether plain data has a value at `path`, which may be None."""
    for key in path:
        in_mapping = isinstance(data, dict) and key in data
        if not in_mapping and not (isinstance(data, list) and isinstance(key, int) and 0 <= key < len(data)):
            return False
        data = data[key]
    return True


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """(path, scalar) of each value in plain data that is no mapping and no list, in order."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value
