"""Reading a file of a repository that nobody has looked at yet."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_MOST_LINKS = 40  # as the kernel allows

# Windows has no such flags, and no FIFOs among its files either.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


class LeadsOutError(OSError):
    """A path that leaves the directory which it must stay in. The text says which link does so, and where to."""


def read_regular_file(path: Path, at_most: int) -> bytes:
    """The first `at_most` + 1 bytes of the file at `path`, which may be anywhere.

    A repository may hold a FIFO or a link to a device under any name: neither blocks or fills the memory. Raises
    OSError (IsADirectoryError, FileNotFoundError) for what is no regular file, ValueError for a path with a null byte.
    """
    return _read(os.open(path, _READ), at_most)


def read_within(root: Path, path: Path, at_most: int) -> bytes:
    """The same for a file that must lie in the directory `root`; `path` is below `root` as it is written.

    Links are followed one by one, and only as long as they stay in `root`: a repository may hold a link to the user's
    own files. Raises LeadsOutError, and what `read_regular_file` raises.
    """
    return _read(_open_within(root, path), at_most)


def steps_to(path: Path) -> Iterator[Path]:
    """Every name that decides what the file at `path` is: each link on the way, and the file at its end.

    Each is a name in its real directory; that directory is no link. Stops after as many links as the kernel follows.
    """
    left, here, links = list(reversed(path.absolute().parts)), Path("/"), 0
    while left:
        part = left.pop()
        if part == "..":
            here = here.parent
            continue
        here /= part
        try:
            target = here.readlink()
        except (OSError, ValueError):
            if not left:
                yield here
            continue
        yield here
        links += 1
        if links == _MOST_LINKS:
            return
        here = here.parent
        left += reversed(target.parts)


def _read(descriptor: int, at_most: int) -> bytes:
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError  # io.open says so, too, and leaves the descriptor open
        if not stat.S_ISREG(mode):
            raise OSError("this is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(at_most + 1)
    finally:
        os.close(descriptor)


def _open_within(root: Path, path: Path) -> int:
    # As it is written: neither of the two is to be resolved here.
    relative = os.path.relpath(path, root)
    if os.open not in os.supports_dir_fd or os.readlink not in os.supports_dir_fd:  # Windows
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            raise LeadsOutError(_leads_out(relative, relative, path))
        return os.open(path, _READ)
    walk = _Walk(root, path, relative)
    try:
        return walk.open()
    finally:
        walk.close()


class _Walk:
    """From a directory down to a file, a component at a time, each opened from the one before."""

    def __init__(self, root: Path, path: Path, relative: str) -> None:
        self._root = Path(os.path.realpath(root))
        self._path = path
        self._relative = relative
        self._way = [os.open(root, _DIRECTORY)]  # the directories down to where we are
        self._names: list[str] = []  # their names
        self._left = list(reversed(Path(relative).parts))  # what is still to go
        self._link = relative  # the last one that was followed
        self._links = 0

    def open(self) -> int:
        while self._left:
            part = self._left.pop()
            if part == "..":
                self._climb()
            elif (target := self._target(part)) is not None:
                self._follow(part, target)
            elif self._left:
                self._way.append(os.open(part, _DIRECTORY | _NO_LINK, dir_fd=self._way[-1]))
                self._names.append(part)
            else:
                return os.open(part, _READ | _NO_LINK, dir_fd=self._way[-1])
        raise IsADirectoryError

    def close(self) -> None:
        for descriptor in self._way:
            os.close(descriptor)

    def _climb(self) -> None:
        if len(self._way) == 1:
            raise LeadsOutError(_leads_out(self._relative, self._link, self._path))
        os.close(self._way.pop())
        self._names.pop()

    def _target(self, part: str) -> Path | None:
        """What the link `part` says, None for what is no link. Raises OSError."""
        try:
            return Path(os.readlink(part, dir_fd=self._way[-1]))
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def _follow(self, part: str, target: Path) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self._link = "/".join([*self._names, part])
        if target.is_absolute():
            if not target.is_relative_to(self._root):
                raise LeadsOutError(_leads_out(self._relative, self._link, self._path))
            while len(self._way) > 1:
                self._climb()
            target = target.relative_to(self._root)
        self._left += reversed(target.parts)


def _leads_out(file: str, link: str, path: Path) -> str:
    to = os.path.realpath(path)
    if link == file:
        return f"it is a link that leads out of the project, to {to}"
    return f"the link {link} leads out of the project, to {to}"
