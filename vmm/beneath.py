"""Opening what lies beneath a directory that is held open: never through a link, never above it.

A path is looked up once, here, and everything after that goes by descriptor. Whoever may write in the directory (a
guest with a live mount of it) can retarget a path between two look-ups, and no path is looked up twice.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import stat
import sys
from typing import Any

# Directories on the way need to be searched only, where the system can say so.
PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

ATTEMPTS = 3  # of a look-up while somebody swaps what is looked up
_COMPONENT = (errno.ELOOP, errno.ENOTDIR, errno.EAGAIN, errno.EXDEV)
_SYS_OPENAT2 = 437  # the same number on all architectures of Linux
_RESOLVE = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS, NO_SYMLINKS, BENEATH


class LinkInTheWay(OSError):
    """A component of a path is a link. `component` is the path up to and with it, `target` what it says."""

    def __init__(self, component: str, target: str, below: str = "") -> None:
        super().__init__(errno.ELOOP, f"is a link to {target}", component)
        self.component = component
        self.target = target
        self.below = below  # the name of the directory beneath which no link is followed, where it has one


class _ComponentError(OSError):
    """A component is no directory, or not one that may be passed."""


def open_beneath(directory: int, path: str, flags: int) -> int:
    """A descriptor of `path` (relative, "." for the directory itself) beneath the open `directory`.

    Raises LinkInTheWay where any component is a link, the last one included, and OSError as `os.open` does; also for a
    path with "..", which nobody needs who has a directory to start from.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise OSError(errno.EXDEV, "leads out of the directory", path)
    for left in reversed(range(ATTEMPTS)):
        try:
            if has_openat2():
                with contextlib.suppress(_ComponentError):
                    return _openat2(directory, "/".join(parts) or ".", flags)
            # Where there is no such call; and to say which component was in the way.
            return _walk(directory, parts, flags)
        except _ComponentError as error:  # a link a moment ago, and none any more
            if not left:
                raise OSError(error.errno, error.strerror, error.filename) from None
    raise AssertionError("the last attempt returns or raises")


def parent_beneath(directory: int, path: str) -> tuple[int, str]:
    """A descriptor of the directory that holds `path`, and the name in it; "." and a copy for the directory itself.

    Nothing is asked about the name: it may be missing, or a link. Raises as `open_beneath`.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    above, name = ("/".join(parts[:-1]), parts[-1]) if parts else ("", ".")
    if name == ".." or path.startswith("/"):
        raise OSError(errno.EXDEV, "leads out of the directory", path)
    return open_beneath(directory, above, PASS), name


def read_link(directory: int, name: str) -> str | None:
    """What the link `name` says; None for everything that is none."""
    try:
        if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return os.readlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    return None


def identity(status: os.stat_result) -> tuple[int, int]:
    """What tells one directory from all others of this host while it is held open."""
    return status.st_dev, status.st_ino


def _walk(directory: int, parts: list[str], flags: int) -> int:
    """One component after another, each by its parent's descriptor."""
    current = os.dup(directory)
    try:
        for index, part in enumerate(parts[:-1]):
            inner = _open_one(current, part, PASS, "/".join(parts[: index + 1]))
            os.close(current)
            current = inner
        return _open_one(current, parts[-1] if parts else ".", flags | os.O_NOFOLLOW, "/".join(parts) or ".")
    finally:
        os.close(current)


def _open_one(directory: int, name: str, flags: int, shown: str) -> int:
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno not in _COMPONENT:
            raise OSError(error.errno, error.strerror, shown) from None
        if (target := read_link(directory, name)) is not None:
            raise LinkInTheWay(shown, target) from None
        raise _ComponentError(error.errno, error.strerror, shown) from None


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@functools.cache
def has_openat2() -> bool:
    """Whether the kernel has the call, and lets us make it (containers forbid calls that they do not know)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        root = os.open("/", PASS)
    except OSError:
        return False
    try:
        os.close(_openat2(root, ".", PASS))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


@functools.cache
def _libc() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def _openat2(directory: int, path: str, flags: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE)
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    while True:
        descriptor = _libc().syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(encoded),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if descriptor >= 0:
            return int(descriptor)
        if (code := ctypes.get_errno()) != errno.EINTR:
            raise (_ComponentError if code in _COMPONENT else OSError)(code, os.strerror(code), path)
