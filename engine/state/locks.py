"""A file's lock as a block, and whether somebody has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from engine.files import make_private
from engine.scarcity import is_scarcity


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within the block nobody else has the lock of the file, which is made. Waits for those who have it."""
    make_private(path.parent)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_directory(directory: Path) -> Iterator[bool]:
    """Within the block nobody else has the lock of the directory; False, at once, where somebody has it.

    Raises OSError where there is no such directory.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def is_locked(path: Path, *, remove: bool = False) -> bool:
    """Whether somebody has the lock of the file; with `remove`, a file that nobody has the lock of goes away.

    Raises OSError where there is too little of something to look.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if is_scarcity(error):
            raise
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if remove:
            path.unlink(missing_ok=True)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
