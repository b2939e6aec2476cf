"""A place of this host that a copy starts from or ends in, looked up once and held open.

The user's own links are followed, as every program does. Where a guest may write (`Roots`), none is: it may have been
made by the guest, a moment ago, to be found here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from vmm.beneath import PASS, LinkInTheWay, identity

MAX_LINKS = 40  # as the kernel

# (device, inode) of directories beneath which no link is followed, and whose they are.
Roots = Mapping[tuple[int, int], str]

# What becomes of the last component: a name in its directory, that directory itself, or the one that fits.
Last = Literal["name", "directory", "either"]


class Place(NamedTuple):
    """`name` in the open directory `directory`; "" for that directory itself. `own_name` is what a copy is called."""

    directory: int
    name: str
    own_name: str

    def kind(self) -> Literal["directory", "other", "missing"]:
        """What is there now; a link is "other"."""
        try:
            mode = os.stat(self.name or ".", dir_fd=self.directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return "missing"
        return "directory" if stat.S_ISDIR(mode) else "other"


@contextlib.contextmanager
def hold(path: Path | str, roots: Roots, last: Last) -> Iterator[Place]:
    """The place that `path` means, from the working directory, for the length of the block.

    `last` "name" does not ask what is there; "directory" enters it; "either" enters a directory, and leaves anything
    else, also nothing, a name. Raises LinkInTheWay for a link beneath one of the `roots`, OSError for what is missing.
    """
    way = _Way(roots)
    try:
        yield way.find(str(path), last)
    finally:
        way.close()


class _Step(NamedTuple):
    descriptor: int
    name: str
    below: str  # whose root it is, or lies in; "" where links are the user's own


class _Way:
    """From "/" downwards, each directory by its parent's descriptor. All of them are held: ".." is a step back."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._steps = [_Step(os.open("/", PASS), "", "")]
        self._links = 0

    def close(self) -> None:
        while self._steps:
            os.close(self._steps.pop().descriptor)

    def find(self, path: str, last: Last) -> Place:
        parts = _split(os.path.join(os.getcwd(), path))  # noqa: PTH109, PTH118 - Path would drop dots
        if last == "name" and (not parts or parts[-1] == ".."):
            last = "directory"
        while parts:
            part = parts.pop(0)
            if part == "..":
                if len(self._steps) > 1:
                    os.close(self._steps.pop().descriptor)
                continue
            if not parts and last == "name":
                return Place(self._steps[-1].descriptor, part, part)
            target = self._link(part)
            if target is not None:
                if not parts and last == "either" and not self._leads_to_directory(part):
                    return Place(self._steps[-1].descriptor, part, part)
                parts = self._follow(part, target) + parts
            elif not parts and last == "either" and not self._is_directory(part):
                return Place(self._steps[-1].descriptor, part, part)
            else:
                self._enter(part)
        here = self._steps[-1]
        return Place(here.descriptor, "", here.name)

    def _link(self, name: str) -> str | None:
        here = self._steps[-1].descriptor
        try:
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return os.readlink(name, dir_fd=here) if stat.S_ISLNK(status.st_mode) else None

    def _follow(self, name: str, target: str) -> list[str]:
        """The components that stand for the link; back at "/" where it is absolute."""
        if below := self._steps[-1].below:
            raise LinkInTheWay(self._shown(name), target, below)
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._shown(name))
        if target.startswith("/"):
            while len(self._steps) > 1:
                os.close(self._steps.pop().descriptor)
        return _split(target)

    def _enter(self, name: str) -> None:
        here = self._steps[-1]
        try:
            descriptor = os.open(name, PASS, dir_fd=here.descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._shown(name)) from None
        below = here.below or self._roots.get(identity(os.fstat(descriptor)), "")
        self._steps.append(_Step(descriptor, name, below))

    def _is_directory(self, name: str) -> bool:
        try:
            return stat.S_ISDIR(os.stat(name, dir_fd=self._steps[-1].descriptor, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _leads_to_directory(self, name: str) -> bool:
        """Of the user's own link; beneath a root it is refused by who follows it."""
        if self._steps[-1].below:
            return True
        try:
            return stat.S_ISDIR(os.stat(name, dir_fd=self._steps[-1].descriptor).st_mode)
        except OSError:
            return False

    def _shown(self, name: str) -> str:
        return "/".join([*(step.name for step in self._steps), name])


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
