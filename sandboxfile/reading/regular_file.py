"""Reading a file of an untrusted repository."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_MOST_LINKS = 40  # the limit of the kernel

# Windows lacks some of these flags, and does not need them: it has no FIFOs among its files.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


class LeadsOutError(OSError):
    """A path leads out of the directory that it must stay in. The text names the link and its target."""


def read_regular_file(path: Path, at_most: int) -> bytes:
    """The first `at_most` + 1 bytes of the regular file at `path`, which may be anywhere.

    A repository may have a FIFO, or a link to a device, under any name. So this neither blocks nor fills the memory.
    Raises OSError (such as IsADirectoryError or FileNotFoundError) for everything that is no regular file, and
    ValueError for a path with a null byte.
    """
    return _read(os.open(path, _READ), at_most)


def read_within(root: Path, path: Path, at_most: int) -> bytes:
    """The first `at_most` + 1 bytes of a regular file that must lie in the directory `root`.

    `path` begins with `root` as it is written. Links are followed one by one, and only while they stay in `root`: a
    repository may have a link to the user's own files. Raises LeadsOutError, and what `read_regular_file` raises.
    """
    return _read(_open_within(root, path), at_most)


def steps_to(path: Path) -> Iterator[Path]:
    """The paths that decide which file `path` is: each link on the way, and the file at the end.

    The directory of each path has no links in it. Stops after as many links as the kernel would follow.
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
            raise IsADirectoryError  # `os.fdopen` would raise it, too, but without closing the descriptor
        if not stat.S_ISREG(mode):
            raise OSError("this is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(at_most + 1)
    finally:
        os.close(descriptor)


def _open_within(root: Path, path: Path) -> int:
    # Compares the paths as they are written, without following links.
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
    """Opens a file below a directory, one component of its path after the other, each relative to the one before."""

    def __init__(self, root: Path, path: Path, relative: str) -> None:
        self._root = Path(os.path.realpath(root))
        self._path = path
        self._relative = relative
        self._way = [os.open(root, _DIRECTORY)]  # descriptors of the directories from the root to the current one
        self._names: list[str] = []  # the names of those below the root
        self._left = list(reversed(Path(relative).parts))  # the components that are left, the next one last
        self._link = relative  # the last link that was followed
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
        """The target of the link `part`; None when it is no link. Raises OSError."""
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
