"""Whole directory trees: how much disk they take, getting them onto it, and away again."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

MANY_FILES = 64  # above this one sync of everything is cheaper than one per file


def disk_usage(directory: Path) -> int:
    """Allocated bytes, not lengths: the memory of a snapshot is a sparse file. 0 when there is no such directory."""
    total = 0
    for path in _files(directory):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def sync_tree(directory: Path) -> None:
    """Wait until every file below is on the disk. May take seconds; call it in a thread."""
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
    """Remove as much as can be, never raising for a file that stays."""
    shutil.rmtree(directory, ignore_errors=True)
    if not directory.exists():
        return
    # Unpacked packages have directories without write permission, which stop an ordinary user. Top down, each opened up
    # before os.walk looks into it.
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
