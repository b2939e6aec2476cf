"""Everything in a directory, by descriptors: what is seen is what is opened, whoever renames or swaps meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import IO, Literal, NamedTuple, Protocol

from vmm.beneath import DIRECTORY, FILE

MAX_DEPTH = 256  # a descriptor is held for each directory on the way down; 1,024 are what a login shell starts with

Kind = Literal["directory", "file", "link", "other"]

# (path relative to the root, with "/"; together with everything below it) -> leave it out. For a directory it is asked
# both ways: one that is left out itself, but perhaps not all that is in it, counts when something in it does.
LeaveOut = Callable[[str, bool], bool]

_CHANGED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class TreeLimits(NamedTuple):
    """Names that are looked at, and bytes of files that are taken."""

    entries: int
    size: int


class TreeChanged(OSError):
    """Something in the tree was renamed, removed, swapped or cut while it was read."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EAGAIN, "changed while it was read", name)


class TooLarge(OSError):
    """The tree goes beyond the limits. `what` says which one, in words."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(errno.EFBIG, what, name)
        self.what = what


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Found:
    """One entry. `name` is relative to the root, "" for the root itself; `link` is what a link says.

    `content` is the open file, `size` bytes of it, until the next entry is asked for. `mode` has the permissions only.
    """

    name: str
    kind: Kind
    mode: int
    mtime: float
    size: int = 0
    link: str = ""
    content: Readable | None = None


class Content:
    """A file's bytes as many as there were when it was opened. Raises TreeChanged where there are fewer now."""

    def __init__(self, file: IO[bytes], size: int, name: str) -> None:
        self._file = file
        self._left = size
        self._name = name

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted) if wanted else b""
        if len(data) < wanted:
            raise TreeChanged(self._name)
        self._left -= len(data)
        return data


def nothing(name: str, with_all_below: bool) -> bool:
    """Leaves nothing out."""
    return False


def walk(
    directory: int, name: str, leave_out: LeaveOut = nothing, limits: TreeLimits | None = None
) -> Generator[Found, None, None]:
    """`name` in the open `directory` (".": itself) and, where it is a directory, all that is in it.

    Parents come before children, the names of a directory in byte order; no link is followed. Holds as many
    descriptors as it is deep, MAX_DEPTH at most. Raises TreeChanged and TooLarge, and OSError with the entry's name as
    `filename` for what cannot be read.
    """
    return _Walk(leave_out, limits).run(directory, name)


class _Level:
    """A directory on the way down; `untold` is its own entry while nothing has shown that it counts."""

    def __init__(self, descriptor: int, name: str, untold: Found | None) -> None:
        self.descriptor = descriptor
        self.name = name
        self.untold = untold
        self.names: list[str] = []  # still to be looked at, the next one last


class _Walk:
    def __init__(self, leave_out: LeaveOut, limits: TreeLimits | None) -> None:
        self._leave_out = leave_out
        self._limits = limits
        self._entries = self._size = 0
        self._levels: list[_Level] = []

    def run(self, directory: int, base: str) -> Generator[Found, None, None]:
        try:
            yield from self._visit(directory, base, "")
            while self._levels:
                level = self._levels[-1]
                if not level.names:
                    os.close(self._levels.pop().descriptor)
                    continue
                base = level.names.pop()
                name = f"{level.name}/{base}" if level.name else base
                if not self._leave_out(name, True):
                    yield from self._visit(level.descriptor, base, name)
        finally:
            while self._levels:
                os.close(self._levels.pop().descriptor)

    def _visit(self, directory: int, base: str, name: str) -> Iterator[Found]:
        try:
            status = os.stat(base, dir_fd=directory, follow_symlinks=False)
            left_out = bool(name) and self._leave_out(name, False)
            if stat.S_ISDIR(status.st_mode):
                found = self._enter(directory, base, name, left_out)
                if not left_out:
                    yield from self._tell(found)
            elif not left_out:
                yield from self._take(directory, base, name, status)
        except OSError as error:
            if isinstance(error, (TreeChanged, TooLarge)):
                raise
            if name and error.errno in _CHANGED:
                raise TreeChanged(name) from None
            raise OSError(error.errno, error.strerror, name or base) from None

    def _tell(self, found: Found) -> Iterator[Found]:
        for level in self._levels:
            if level.untold is not None and level.name != found.name:
                untold, level.untold = level.untold, None
                yield untold
        yield found

    def _enter(self, directory: int, base: str, name: str, left_out: bool) -> Found:
        if len(self._levels) >= MAX_DEPTH:
            raise TooLarge(name, f"is deeper than {MAX_DEPTH} directories")
        descriptor = os.open(base, DIRECTORY, dir_fd=directory)
        level = _Level(descriptor, name, None)
        self._levels.append(level)
        found = _found(name, "directory", os.fstat(descriptor))
        if left_out:
            level.untold = found
        level.names = self._list(descriptor, name)
        return found

    def _list(self, descriptor: int, name: str) -> list[str]:
        names = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                names.append(entry.name)
                self._entries += 1
                if self._limits and self._entries > self._limits.entries:
                    raise TooLarge(name, f"holds more than {self._limits.entries:,} files and directories")
        return sorted(names, key=os.fsencode, reverse=True)

    def _take(self, directory: int, base: str, name: str, status: os.stat_result) -> Iterator[Found]:
        if stat.S_ISLNK(status.st_mode):
            yield from self._tell(_found(name, "link", status, link=os.readlink(base, dir_fd=directory)))
        elif not stat.S_ISREG(status.st_mode):
            yield from self._tell(_found(name, "other", status))
        else:
            with os.fdopen(os.open(base, FILE, dir_fd=directory), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise TreeChanged(name or base)
                self._size += status.st_size
                if self._limits and self._size > self._limits.size:
                    raise TooLarge(name, f"holds more than {self._limits.size / 1024**3:g} GiB of files")
                content = Content(file, status.st_size, name or base)
                yield from self._tell(_found(name, "file", status, size=status.st_size, content=content))


def _found(name: str, kind: Kind, status: os.stat_result, **more: object) -> Found:
    return Found(name, kind, stat.S_IMODE(status.st_mode), status.st_mtime, **more)  # type: ignore[arg-type]
