"""Looking at the files of a project. They are read up to a limit; links out of the project are not followed."""

from __future__ import annotations

import fnmatch
import json
import os
import posixpath
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandboxfile.reading.regular_file import read_regular_file

MAX_BYTES = 1024 * 1024
MAX_NAMES = 10_000
MAX_MATCHES = 200  # files of one pattern


class Project:
    """The directory of a project. A file that cannot be read or understood counts as missing, and gets a note."""

    def __init__(self, root: Path, note: Callable[[str], None]) -> None:
        self.root = root
        self._note = note
        self._real = root.resolve()
        self._texts: dict[str, str | None] = {}
        try:
            with os.scandir(root) as entries:
                self.names = frozenset(entry.name for entry, _ in zip(entries, range(MAX_NAMES), strict=False))
        except OSError:
            self.names = frozenset()

    def has(self, name: str) -> bool:
        """Whether anything exists at `name`, a path below the root."""
        first, _, rest = name.partition("/")
        if not rest:
            return first in self.names
        try:
            return first in self.names and (self.root / name).exists()
        except (OSError, ValueError):
            return False

    def first(self, *names: str) -> str | None:
        """The first of `names` that is a readable file; None when there is none."""
        return next((name for name in names if self.text(name) is not None), None)

    def text(self, name: str) -> str | None:
        """The text of a regular file; None when there is none."""
        if name not in self._texts:
            self._texts[name] = self._read(name) if self.has(name) else None
        return self._texts[name]

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file; empty when there is none."""
        return self._data(name, json.loads)

    def toml(self, name: str) -> dict[str, Any]:
        """The table in a TOML file; empty when there is none."""
        return self._data(name, tomllib.loads)

    def inputs(self, *names: str) -> list[str]:
        """Those of `names` that are files of the project, and so can be inputs of a step."""
        return [name for name in names if self.text(name) is not None]

    def matching(self, pattern: str) -> list[str]:
        """The files that a pattern names, sorted; `*` is for part of one name. None for a pattern with `**`."""
        found = [""]
        for part in pattern.split("/"):
            if part in ("..", "**") or len(found) > MAX_MATCHES:
                return []
            if "*" in part or "?" in part:
                found = [posixpath.join(above, name) for above in found for name in self._below(above, part)]
            else:
                found = [posixpath.join(above, part) for above in found]
        return sorted(name for name in found[:MAX_MATCHES] if self.text(name) is not None)

    def _below(self, directory: str, pattern: str) -> list[str]:
        """The names in a directory of the project that match; not those that are hidden."""
        try:
            if not (self.root / directory).resolve().is_relative_to(self._real):
                return []
            with os.scandir(self.root / directory) as entries:
                names = [entry.name for entry, _ in zip(entries, range(MAX_NAMES), strict=False)]
        except (OSError, RuntimeError, ValueError):
            return []
        return [name for name in names if fnmatch.fnmatchcase(name, pattern) and not name.startswith(".")]

    def _data(self, name: str, read: Callable[[str], Any]) -> dict[str, Any]:
        text = self.text(name)
        if text is None:
            return {}
        try:
            data = read(text)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            self._note(f"{name} cannot be read: {reason}")
            return {}
        return data if isinstance(data, dict) else {}

    def _read(self, name: str) -> str | None:
        path = self.root / name
        try:
            # A link in a repository could lead to files of the user's own.
            if not path.resolve().is_relative_to(self._real):
                self._note(f"{name} leads out of the project and was not looked at")
                return None
            raw = read_regular_file(path, MAX_BYTES)
        except (OSError, RuntimeError, ValueError):
            return None
        if len(raw) > MAX_BYTES:
            self._note(f"{name} is larger than {MAX_BYTES // 1024} KiB and was not looked at")
            return None
        return raw.decode("utf-8", "replace").removeprefix("\ufeff")


def table(data: Any, *keys: str) -> dict[str, Any]:
    """The mapping at `keys` of untrusted data; empty when there is none."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def word(data: Any, *keys: str) -> str:
    """The string at `keys` of untrusted data; empty when there is none."""
    value = table(data, *keys[:-1]).get(keys[-1])
    return value if isinstance(value, str) else ""


def words(value: Any) -> list[str]:
    """The strings in `value`, if that is a list; it is untrusted data."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
