"""Names of a share that do not exist for the guest, by patterns as in .gitignore.

A path is judged by the names from the shared directory down, anew at each request, since a directory on the way may
have another name by now. So a file that the host makes later is hidden from its first moment on.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from vmm.fileserver.protection import folded, same_letters

MOST_PATHS = 1 << 13  # whose verdicts are remembered
LONGEST_PATH = 4096  # in letters: what is longer counts as hidden, since no verdict of it is remembered
# File systems that know a file by the name in its directory, and perhaps by other letter case, which we fold. Others
# (vfat, NTFS, SMB) may have a second, short name for it, which no pattern foresees. Numbers of statfs(2): ext2 to
# ext4, btrfs, xfs, tmpfs, overlayfs, f2fs, bcachefs, zfs, nfs.
ONE_NAME = (
    0xEF53, 0x9123683E, 0x58465342, 0x01021994, 0x794C7630, 0xF2F52010, 0xCA451A4E, 0x2FC12FC1, 0x6969,
)  # fmt: skip
libc = ctypes.CDLL(None, use_errno=True)

Reached = tuple[frozenset[int], ...]


class _Rule:
    """A pattern: one expression for each name, None for any number of directories."""

    def __init__(self, names: Sequence[str | None], *, directory: bool, shown: bool) -> None:
        self.names = [None if name is None else re.compile(name) for name in names]
        self.directory = directory  # it is about directories alone
        self.shown = shown  # it takes back what an earlier one has hidden

    def start(self) -> frozenset[int]:
        return self._open({0})

    def elsewhere(self) -> frozenset[int]:
        """What is reached in a directory that has nothing to do with the pattern."""
        return self.start() if self.names[0] is None else frozenset()

    def _open(self, reached: set[int]) -> frozenset[int]:
        for at in range(len(self.names)):
            if at in reached and self.names[at] is None:
                reached.add(at + 1)
        return frozenset(reached)

    def step(self, reached: frozenset[int], name: str) -> frozenset[int]:
        further = set()
        for at in reached:
            if at == len(self.names):
                continue
            expression = self.names[at]
            if expression is None:
                further.add(at)
            elif expression.match(name):
                further.add(at + 1)
        return self._open(further)


class _Rules:
    """The patterns in one spelling, in their order: the last one that matches decides."""

    def __init__(self, rules: Sequence[_Rule]) -> None:
        self._rules = rules
        self._reached = lru_cache(MOST_PATHS)(self._reach)

    def verdict(self, path: str) -> tuple[bool, bool]:
        """Whether it is hidden as a file, and as a directory."""
        above, _, name = path.rpartition("/")
        reached = self.reached(above)
        if reached is None:
            return True, True
        reached = self._step(reached, name)
        return self._matches(reached, directory=False), self._matches(reached, directory=True)

    def reached(self, path: str) -> Reached | None:
        """How far each pattern has come in the directory `path`; None where that is hidden."""
        known: list[str] = path.split("/") if path else []
        for at in range(64, len(known), 64):  # so that a deep path needs no deep recursion
            self._reached("/".join(known[:at]))
        return self._reached(path)

    def leads_on(self, path: str) -> bool:
        return self.reached(path) != tuple(rule.elsewhere() for rule in self._rules)

    def _reach(self, path: str) -> Reached | None:
        if not path:
            return tuple(rule.start() for rule in self._rules)
        above, _, name = path.rpartition("/")
        before = self._reached(above)
        if before is None:
            return None
        reached = self._step(before, name)
        return None if self._matches(reached, directory=True) else reached

    def _step(self, reached: Reached, name: str) -> Reached:
        return tuple(rule.step(at, name) for rule, at in zip(self._rules, reached, strict=True))

    def _matches(self, reached: Reached, *, directory: bool) -> bool:
        for rule, at in zip(reversed(self._rules), reversed(reached), strict=True):
            if len(rule.names) in at and (directory or not rule.directory):
                return not rule.shown
        return False


class Hiding:
    """`rules` are the patterns as engine/workspaces/hiding.py translates them; none hides nothing.

    A name is hidden if it is by its own letters, or by those that some file system takes for the same: letter case,
    composed letters, letters that nobody sees, dots and blanks at the end. `own` is a descriptor of /proc/self/fd,
    `root` one of the shared directory.
    """

    def __init__(self, rules: Sequence[dict[str, Any]], root: int, own: int) -> None:
        self.active = bool(rules)
        self._root, self._own = root, own
        self._one_name: dict[int, bool] = {}

        def spelled(key: str) -> _Rules:
            return _Rules([_Rule(rule[key], directory=rule["directory"], shown=rule["shown"]) for rule in rules])

        exact = spelled("names")
        alike = exact if all(rule["names"] == rule["alike"] for rule in rules) else spelled("alike")
        self._spellings = ((exact, str), (alike, _each(same_letters)), (alike, _each(folded)))
        self._judged = lru_cache(MOST_PATHS)(self._judge)

    def hides(self, path: str, *, directory: bool) -> bool:
        """Whether `path`, relative to the shared directory, or a directory above it is hidden."""
        return self.active and bool(path) and self._verdict(path)[directory]

    def _verdict(self, path: str) -> tuple[bool, bool]:
        return (True, True) if len(path) > LONGEST_PATH else self._judged(path)

    def _judge(self, path: str) -> tuple[bool, bool]:
        as_file = as_directory = False
        done: set[tuple[int, str]] = set()  # most names are the same in all spellings
        for rules, spelled in self._spellings:
            if (this := (id(rules), spelled(path))) not in done:
                done.add(this)
                one, other = rules.verdict(this[1])
                as_file, as_directory = as_file or one, as_directory or other
        return as_file, as_directory

    def may_hide(self, path: str) -> bool:
        """Whether it would be hidden as a directory or as a file."""
        return self.active and bool(path) and any(self._verdict(path))

    def hides_alike(self, one: str, other: str) -> bool:
        """Whether below a directory the same names are hidden, be it called `one` or `other`."""
        return not self.active or (
            (len(one) <= LONGEST_PATH and len(other) <= LONGEST_PATH)
            and all(rules.reached(spelled(one)) == rules.reached(spelled(other)) for rules, spelled in self._spellings)
        )

    def leads_on(self, path: str) -> bool:
        """Whether a directory of this name would be on the way to something hidden."""
        return self.active and (
            len(path) > LONGEST_PATH or any(rules.leads_on(spelled(path)) for rules, spelled in self._spellings)
        )

    def hides_open(self, descriptor: int, *, directory: bool) -> bool:
        """Whether what is open has a hidden name now."""
        if not self.active:
            return False
        path = self.place_of(descriptor)
        if path is None:
            return False
        gone = path.removesuffix(" (deleted)")  # the kernel's word; there may be such a name, too
        return self.hides(path, directory=directory) or (gone != path and self.hides(gone, directory=directory))

    def place_of(self, descriptor: int) -> str | None:
        """The path below the shared directory at which the kernel has it; None where it has none."""
        try:
            root = os.readlink(str(self._root), dir_fd=self._own)
            path = os.readlink(str(descriptor), dir_fd=self._own)
        except OSError:  # a path that is too long to be told
            return None
        above = root.rstrip("/") + "/"
        return "" if path == root else path[len(above) :] if path.startswith(above) else None

    def has_other_names(self, directory: int) -> bool:
        """Whether the file system of `directory`, a descriptor, may find a file by a name that it does not list.

        What is found may be on another one, mounted there; the name is the directory's.
        """
        if not self.active:
            return False
        device = os.fstat(directory).st_dev
        if device not in self._one_name:
            buffer = ctypes.create_string_buffer(512)
            known = libc.fstatfs(directory, buffer) == 0
            kind = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], "little") & 0xFFFFFFFF
            self._one_name[device] = known and kind in ONE_NAME
        return not self._one_name[device]


def _each(spelled: Any) -> Any:
    return lambda path: "/".join(map(spelled, path.split("/")))


def lists(directory: int, own: int, name: str) -> bool:
    """Whether the directory has an entry of exactly this name. `own` is a descriptor of /proc/self/fd."""
    descriptor = os.open(str(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=own)
    try:
        with os.scandir(descriptor) as found:
            return any(entry.name == name for entry in found)
    finally:
        os.close(descriptor)
