"""Which files of a workspace a task has changed: a look before, a look after. Nothing in it is run or read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

MOST_FILES = 200_000
UNSEEN = frozenset({".git"})  # what a version control keeps there changes with every look


class Look(NamedTuple):
    """The files of directories, by path, with what tells one state of a file from another. `whole`: all were seen."""

    files: Mapping[str, tuple[int, int, int]]
    whole: bool


def look_at(directories: Iterable[str]) -> Look:
    """Every file and link below the directories, by its path from there. No link is followed."""
    found: dict[str, tuple[int, int, int]] = {}
    for directory in directories:
        for path, status in _walk(directory):
            if len(found) >= MOST_FILES:
                return Look(found, whole=False)
            found[os.path.relpath(path, directory)] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return Look(found, whole=True)


def changed_between(before: Look, after: Look) -> list[str]:
    """The paths that are new, different or gone, sorted."""
    names = before.files.keys() | after.files.keys()
    return sorted(name for name in names if before.files.get(name) != after.files.get(name))


def _walk(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    yield entry.path, status
                elif entry.name not in UNSEEN:
                    yield from _walk(entry.path)
