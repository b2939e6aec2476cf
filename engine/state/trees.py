"""Whole directory trees: how much disk they take, writing them to the disk, and removing them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

MANY_FILES = 64  # with more files, one sync of all disks is cheaper than one for each file


def disk_usage(directory: Path) -> int:
    """The bytes that are allocated on the disk, 0 when there is no such directory.

    The lengths of the files say little, since the memory of a snapshot is a sparse file.
    """
    total = 0
    for path in _files(directory):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def sync_tree(directory: Path) -> None:
    """Wait until every file below `directory` is on the disk. May take seconds, so call it in a thread."""
    files = [path for path in _files(directory) if path.is_file() and not path.is_symlink()]
    if len(files) > MANY_FILES:
        os.sync()
        return
    for path in files:
        sync(path)


def sync(path: Path) -> None:
    """Wait until one file, or the names in one directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(directory: Path) -> None:
    """Remove as much of the tree as possible. Raises nothing for a file that stays."""
    shutil.rmtree(directory, ignore_errors=True)
    if not directory.exists():
        return
    # Unpacked packages have directories without write permission, in which an ordinary user can remove nothing. Each
    # directory gets it before os.walk enters it.
    directory.chmod(0o700)
    for parent, names, _ in os.walk(directory):
        for child in (Path(parent, name) for name in names):
            with contextlib.suppress(OSError):
                if not child.is_symlink():
                    child.chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)


def _files(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory):
        yield from (Path(parent, name) for name in names)
