"""How much the guest may add to the disk of the host: by the limit of its mount, and so that the host keeps some free.

What the host keeps is looked up with statvfs, not at each request: between two looks the guest gets an allowance. The
limit counts the blocks that files really have before and after a change, and NAME_BYTES for each name that is made.
What the guest removes is given back; the count never falls below nothing, so that what the user had is no allowance.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

NAME_BYTES = 4096  # for each name: an inode and an entry of a directory, which st_blocks of no file counts
BLOCK = 512  # what st_blocks counts, whatever the file system's own blocks are
DISK_BLOCK = 4096  # the most that one byte takes on file systems with usual blocks
KEPT_SHARE = 10  # of what was free when the mount began, one part in ten stays free
KEPT_MOST, KEPT_FILES_MOST = 10 << 30, 100_000  # bytes and inodes, and no more than that
ALLOWANCE, ALLOWANCE_FILES = 16 << 20, 64  # until the next look at the file system
DISK, FILES, LIMIT, ROOM = "disk", "files", "limit", "room"  # what `tell` hears: what is used up, or that there is room
WORDS = (DISK, FILES, LIMIT, ROOM)

Tell = Callable[[str], object]


class Quota:
    """Of one mount. `limit` is in bytes, None: no limit but what the host keeps free; `tell` hears of each change."""

    def __init__(self, limit: int | None = None, tell: Tell = lambda word: None) -> None:
        self.used = 0
        self._limit = limit
        self._tell = tell
        self._said = ROOM
        self._kept: dict[int, tuple[int, int]] = {}  # by file system
        self._allowed: dict[int, list[int]] = {}  # by file system: bytes and names

    def begin(self, root: int) -> None:
        """What is free now is what a share is kept of. Raises OSError."""
        self._look(root, os.fstat(root).st_dev, 0)

    @property
    def kept(self) -> tuple[int, int]:
        """Bytes and inodes that stay free on the file system of the root; -1 inodes: it has no number of them."""
        return next(iter(self._kept.values()), (0, -1))

    def keep(self, device: int, size: int, files: int) -> None:
        """Keep at least as much there as a server before this one did: else each would keep a tenth of what the one
        before has left."""
        now = self._kept.get(device, (0, -1))
        self._kept[device] = (max(now[0], min(size, KEPT_MOST)), max(now[1], min(files, KEPT_FILES_MOST)))
        self._allowed.pop(device, None)

    def take(self, descriptor: int, device: int, size: int = 0, names: int = 0) -> None:
        """Raises ENOSPC unless `size` bytes and `names` may be added on the file system of `descriptor`, which is on
        `device`."""
        if self._limit is not None and self.used + size + names * NAME_BYTES > self._limit:
            raise self._full(LIMIT)
        if size:  # what is asked for may be one byte, and take a whole block, and one that says where the blocks are
            size = -(-size // DISK_BLOCK) * DISK_BLOCK + DISK_BLOCK
        allowed = self._allowed.get(device)
        if allowed is None or allowed[0] < size or allowed[1] < names:
            allowed = self._look(descriptor, device, size)
            if allowed[0] <= 0 or allowed[0] < size:
                raise self._full(DISK)
            if allowed[1] < names:
                raise self._full(FILES)
        allowed[0] -= size
        allowed[1] -= names
        if self._said != ROOM:
            self._say(ROOM)

    def _look(self, descriptor: int, device: int, size: int) -> list[int]:
        st = os.fstatvfs(descriptor)
        free, free_files = st.f_bavail * st.f_frsize, st.f_favail
        if device not in self._kept:
            kept_files = min(free_files // KEPT_SHARE, KEPT_FILES_MOST) if st.f_files else -1
            self._kept[device] = (min(free // KEPT_SHARE, KEPT_MOST), kept_files)
        kept, kept_files = self._kept[device]
        names = ALLOWANCE_FILES if kept_files < 0 else min(free_files - kept_files, ALLOWANCE_FILES)
        allowed = self._allowed[device] = [min(free - kept, max(ALLOWANCE, size)), names]
        return allowed

    def _full(self, word: str) -> OSError:
        if self._said != word:
            self._say(word)
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _say(self, word: str) -> None:
        self._said = word
        self._tell(word)

    # the count of the limit

    @property
    def counts(self) -> bool:
        """Whether there is a limit to count for."""
        return self._limit is not None

    def named(self, names: int = 1) -> None:
        """The guest has made a name, or, by a negative number, has removed one."""
        self.used = max(self.used + names * NAME_BYTES, 0)

    def changed(self, before: int, after: int) -> None:
        """A file has another number of blocks."""
        self.used = max(self.used + (after - before) * BLOCK, 0)
