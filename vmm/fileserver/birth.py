"""When a file was made: a host gives the inode number of a removed file to the next one, and this tells the two apart.

`os.stat` does not say it on Linux, so statx is asked (statx(2); struct statx of linux/stat.h).
"""

from __future__ import annotations

import ctypes
import struct

from vmm.confine import AT_EMPTY_PATH, libc

STATX_BTIME = 0x800
_SIZE, _MASK_AT, _BIRTH_AT = 256, 0, 80
_MASK, _BIRTH = struct.Struct("=I"), struct.Struct("=qI")


def born(descriptor: int) -> int | None:
    """Nanoseconds since 1970, or None where the file system (NFS, an old tmpfs) or the C library does not know."""
    answer = ctypes.create_string_buffer(_SIZE)
    try:
        failed = libc.statx(descriptor, b"", AT_EMPTY_PATH, STATX_BTIME, answer)
    except AttributeError:
        return None
    if failed or not _MASK.unpack_from(answer, _MASK_AT)[0] & STATX_BTIME:
        return None
    seconds, rest = _BIRTH.unpack_from(answer, _BIRTH_AT)
    return int(seconds * 1_000_000_000 + rest)
