"""What a program looked at on this host, and whether all of it is still as it was.

Files and directories are known again by what `stat` says of them, variables by a keyed digest of their values. A look
that cannot be described in this way makes the whole of no use: `Looks.whole` is False then.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

# "there": only what kind of thing it is; "names": which entries a directory has; "content": all of it.
Depth = Literal["there", "names", "content"]

FRESH_NS = 50_000_000  # a file that was changed this short ago may change again without a change of its times
MOST = 20_000  # paths; to look at so many again takes 50 ms
_DEPTHS: tuple[Depth, ...] = ("there", "names", "content")

Mark = tuple[int, ...]
NOTHING: Mark = ()


class Look(NamedTuple):
    """A path, whether links were followed, how deep the look was, and what `stat` said; NOTHING for no such path."""

    path: str
    follow: bool
    depth: Depth
    mark: Mark


def mark_of(path: str, follow: bool, depth: Depth) -> Mark:
    """What says that the path is unchanged at this depth. Raises OSError but for what does not exist."""
    try:
        seen = _stat(path, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    return mark_from(seen, depth)


def mark_from(seen: os.stat_result, depth: Depth) -> Mark:
    kind = stat.S_IFMT(seen.st_mode)
    if kind == stat.S_IFLNK:  # a link cannot be changed, only replaced
        return kind, seen.st_dev, seen.st_ino, seen.st_ctime_ns
    if depth == "there":
        return (kind, seen.st_dev, seen.st_ino) if kind == stat.S_IFDIR else (kind, seen.st_uid, seen.st_mode)
    return kind, seen.st_mode, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


_stat = os.stat  # this one, also while a Watch has put another in its place


class Looks:
    """Everything that was looked at; the first look at each thing counts, since what came of it may be the oldest."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, bool], Look] = {}
        self._variables: dict[str, str | None] = {}
        self._beginnings: dict[str, str] = {}
        self.whole = True
        self.why = ""

    def fail(self, why: str) -> None:
        """Something was looked at that cannot be looked at again."""
        self.whole, self.why = False, self.why or why

    def add(self, path: str, follow: bool, depth: Depth, mark: Mark | None = None) -> None:
        """Note a look at an absolute path, before it happens, or with the mark that it gave."""
        known = self._paths.get((path, follow))
        if known is not None and _DEPTHS.index(known.depth) >= _DEPTHS.index(depth):
            return
        try:
            mark = mark_of(path, follow, depth) if mark is None else mark
        except OSError as error:  # callers may go on without it
            self.fail(f"{path}: {error.strerror}")
            return
        if len(mark) == 7 and mark[-1] > time.time_ns() - _fresh_ns(mark):
            self.fail(f"{path} was changed a moment ago")
        if known is not None and known.mark[:1] != mark[:1]:
            self.fail(f"{path} changed meanwhile")
        if len(self._paths) >= MOST:
            self.fail(f"more than {MOST} files were looked at")
        self._paths[path, follow] = Look(path, follow, depth, mark)

    def add_variable(self, name: str, value: str | None) -> None:
        """Note the value that a variable has, None where it has none."""
        self._variables.setdefault(name, value)

    def add_beginnings(self, beginnings: Iterable[str], environment: Mapping[str, str]) -> None:
        """Note all variables whose names begin so, in any case, also those that are not there yet."""
        for each in beginnings:
            self._beginnings.setdefault(each.lower(), _matching(each.lower(), environment))

    @property
    def paths(self) -> tuple[Look, ...]:
        return tuple(self._paths.values())

    @property
    def variables(self) -> Mapping[str, str | None]:
        return self._variables

    def to_json(self, salt: bytes) -> dict[str, Any]:
        """As a JSON value, which holds no value of a variable."""
        return {
            "paths": [[path, follow, depth, list(mark)] for path, follow, depth, mark in list(self._paths.values())],
            "variables": {name: _digest(value, salt) for name, value in list(self._variables.items())},
            "beginnings": {each: _digest(values, salt) for each, values in list(self._beginnings.items())},
            "salt": salt.hex(),
        }


def changed(value: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """What of a value of `to_json` is not as it was: a path or a variable; "" when all of it is.

    Raises ValueError, TypeError or KeyError for what `to_json` did not write.
    """
    salt = bytes.fromhex(value["salt"])
    for name, digest in value["variables"].items():
        if _digest(environment.get(name), salt) != digest:
            return f"${name}"
    for each, digest in value["beginnings"].items():
        if _digest(_matching(each, environment), salt) != digest:
            return f"${each}..."
    for path, follow, depth, mark in value["paths"]:
        try:
            now = mark_of(path, follow, depth)
        except OSError:
            return str(path)
        if list(now) != mark:
            return str(path)
    return ""


def _matching(beginning: str, environment: Mapping[str, str]) -> str:
    """All variables whose names begin so, as one text that no others have."""
    return repr(sorted((name, value) for name, value in environment.items() if name.lower().startswith(beginning)))


def _fresh_ns(mark: Mark) -> int:
    """A file system that counts in whole seconds, or in two of them, shows two changes within that as one."""
    return FRESH_NS if mark[-2] % 1_000_000_000 else FRESH_NS * 50


def _digest(value: str | None, salt: bytes) -> str | None:
    if value is None:
        return None
    from _blake2 import blake2b  # hashlib would load OpenSSL for it

    return blake2b(os.fsencode(value), key=salt, digest_size=16).hexdigest()
