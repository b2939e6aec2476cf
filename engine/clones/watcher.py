"""Says when something changes in directories. Runs on this host, and in the guest as text that is sent there.

Standard library only. It is given a directory, and as a line of JSON the directories below it that count. It prints a
line when all of them are watched, and one for each while of changes. It ends with its input.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import stat
import struct
import sys
import time
from collections.abc import Iterable

MODIFY, ATTRIB, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200  # linux/inotify.h
ISDIR, OVERFLOW, IGNORED, ONLYDIR, DONT_FOLLOW = 0x40000000, 0x4000, 0x8000, 0x1000000, 0x2000000
WANTED = MODIFY | ATTRIB | MOVED_FROM | MOVED_TO | CREATE | DELETE
EVENT = struct.Struct("iIII")
MOST_WATCHED = 8192  # a user may have some 10,000 to a million on all of the system
SETTLE_S, MOST_S = 0.2, 2.0  # until nothing has changed for so long, and at most so long
LEFT_OUT = b".git"


def is_directory(path: bytes) -> bool:
    """A directory, and no link to one."""
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False


class Watcher:
    """Of one directory. `descriptor` can be read when something has changed; then `read` says whether it counts."""

    def __init__(self, root: str) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._root = os.fsencode(root)
        self._watched: dict[int, bytes] = {}

    def close(self) -> None:
        os.close(self.descriptor)

    def add_all(self, names: Iterable[str]) -> None:
        """Watch these directories, "" for the whole, and those in them that have no file yet: they are nobody's."""
        named = {os.fsencode(name) for name in names}
        for name in sorted(named):
            self._add(name)
            for inner in self._directories_in(name):
                if inner not in named and not self._names_in(inner):
                    self._add(inner)

    def _add(self, name: bytes) -> None:
        if len(self._watched) < MOST_WATCHED:
            number = self._libc.inotify_add_watch(self.descriptor, self._path(name), WANTED | ONLYDIR | DONT_FOLLOW)
            if number >= 0:
                self._watched[number] = name

    def _add_below(self, name: bytes) -> None:
        """A directory that is new, with those in it."""
        self._add(name)
        if len(self._watched) < MOST_WATCHED:
            for inner in self._directories_in(name):
                self._add_below(inner)

    def _path(self, name: bytes) -> bytes:
        return self._root + b"/" + name

    def _names_in(self, name: bytes) -> list[bytes]:
        with contextlib.suppress(OSError):
            return os.listdir(self._path(name))  # noqa: PTH208
        return []

    def _directories_in(self, name: bytes) -> list[bytes]:
        found = []
        for one in self._names_in(name):
            inner = name + b"/" + one if name else one
            if one != LEFT_OUT and is_directory(self._path(inner)):
                found.append(inner)
        return found

    def read(self) -> bool:
        """Empty the queue; whether something that counts was in it."""
        counts = False
        while True:
            try:
                data = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return counts
            at = 0
            while at < len(data):
                number, mask, _, size = EVENT.unpack_from(data, at)
                name = data[at + EVENT.size : at + EVENT.size + size].rstrip(b"\0")
                at += EVENT.size + size
                if mask & IGNORED:  # the directory is gone, and its place is another's
                    self._watched.pop(number, None)
                if name == LEFT_OUT:
                    continue
                counts = counts or bool(mask & (WANTED | OVERFLOW))
                above = self._watched.get(number)
                if mask & ISDIR and mask & (CREATE | MOVED_TO) and above is not None:
                    self._add_below(above + b"/" + name if above else name)


def main(root: str) -> None:
    watcher = Watcher(root)
    watcher.add_all(json.loads(sys.stdin.buffer.readline()))
    print(flush=True)
    while True:
        ready = select.select([watcher.descriptor, sys.stdin], [], [])[0]
        if sys.stdin in ready:
            return
        if not watcher.read():
            continue
        began = time.monotonic()
        while time.monotonic() < began + MOST_S and select.select([watcher.descriptor], [], [], SETTLE_S)[0]:
            watcher.read()
        print(flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
