"""Places of a share where the guest sees an empty directory, whatever the host has there: it mounts something on it.

The host has no part in them. No directory is made there, none that is there is seen or changed, and what the host does
to its own one takes no mount of the guest away.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable

NOWHERE = -1  # the device of what is on none of the host's
MOST = 1024  # in one share


class MountPoints:
    """`paths` are relative to the shared directory; `uid` and `gid` own on the host what the guest makes."""

    def __init__(self, paths: Iterable[str], uid: int, gid: int) -> None:
        self._numbers: dict[str, dict[str, int]] = {}  # of the names in each directory
        for number, path in enumerate(paths):
            above, _, name = path.strip("/").rpartition("/")
            self._numbers.setdefault(above, {})[name] = number
        self.active = bool(self._numbers)
        self._uid, self._gid, self._made_ns = uid, gid, time.time_ns()

    def names(self, directory: str) -> Iterable[str]:
        """Those in `directory`, a path below the shared one."""
        return self._numbers.get(directory, ())

    def status(self, parent: int, directory: str, name: str) -> os.stat_result | None:
        """What is at `name` of the node `parent`, whose path is `directory`; None where that is for the host to say."""
        number = self._numbers.get(directory, {}).get(name)
        if number is None:
            return None
        # A directory that the host has put in the place of the one above is another node, and this another directory.
        inode, seconds = parent * MOST + number, self._made_ns // 10**9
        seen = (stat.S_IFDIR | 0o755, inode, NOWHERE, 2, self._uid, self._gid, 0, seconds, seconds, seconds)
        more = dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), self._made_ns)
        return os.stat_result(seen, more | {"st_blksize": 4096, "st_blocks": 0, "st_rdev": 0})
