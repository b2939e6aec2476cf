"""FUSE's messages: numbers and layouts, and nothing that acts.

Source: include/uapi/linux/fuse.h of Linux 6.12 (protocol 7.41). All integers are in the guest's byte order, which is
ours.
"""

from __future__ import annotations

import stat
import struct
from os import stat_result

MAJOR, MINOR = 7, 38

# Operations.
LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK = 1, 2, 3, 4, 5, 6
MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = 8, 9, 10, 11, 12, 13
OPEN, READ, WRITE, STATFS, RELEASE, FSYNC = 14, 15, 16, 17, 18, 20
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, FSYNCDIR = 25, 26, 27, 28, 29, 30
GETLK, SETLK, SETLKW, CREATE, INTERRUPT, DESTROY = 31, 32, 33, 35, 36, 38
BATCH_FORGET, FALLOCATE, RENAME2, LSEEK, COPY_FILE_RANGE, SYNCFS, TMPFILE = 42, 43, 45, 46, 47, 50, 51

# What INIT negotiates. The second word holds the bits from 32 up.
ASYNC_READ, POSIX_LOCKS, ATOMIC_O_TRUNC, BIG_WRITES = 1 << 0, 1 << 1, 1 << 3, 1 << 5
FLOCK_LOCKS, AUTO_INVAL_DATA, ASYNC_DIO, PARALLEL_DIROPS = 1 << 10, 1 << 12, 1 << 15, 1 << 18
MAX_PAGES, INIT_EXT = 1 << 22, 1 << 30
DIRECT_IO_ALLOW_MMAP = 1 << (36 - 32)

# Answers to OPEN and CREATE.
FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_NOFLUSH = 1 << 0, 1 << 1, 1 << 5

# SETATTR: which fields are valid.
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME, SET_FH = 1, 2, 4, 8, 16, 32, 64
SET_ATIME_NOW, SET_MTIME_NOW = 128, 256

LOCK_IS_FLOCK = 1  # lk_flags
RELEASE_FLOCK_UNLOCK = 2  # release_flags
WRITE_CACHE = 1  # write_flags: from the page cache, so of a mapping

IN_HEADER = struct.Struct("=IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, extensions' length, padding
OUT_HEADER = struct.Struct("=IiQ")  # length, -errno, unique
INIT_IN = struct.Struct("=IIII")  # major, minor, max_readahead, flags; then flags2
INIT_OUT = struct.Struct("=IIIIHHIIHHII24x")
ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
ENTRY = struct.Struct("=QQQQII")  # node, generation, entry_valid, attr_valid, and their nanoseconds
ATTR_OUT = struct.Struct("=QII")
OPEN_OUT = struct.Struct("=QII")
WRITE_OUT = struct.Struct("=II")
LSEEK_OUT = struct.Struct("=Q")
STATFS_OUT = struct.Struct("=QQQQQIIII24x")
DIRENT = struct.Struct("=QQII")

GETATTR_IN = struct.Struct("=IIQ")
SETATTR_IN = struct.Struct("=IIQQQQQQIIIIIIII")
OPEN_IN = struct.Struct("=II")
CREATE_IN = struct.Struct("=IIII")
MKNOD_IN = struct.Struct("=IIII")
MKDIR_IN = struct.Struct("=II")
RENAME_IN = struct.Struct("=Q")
RENAME2_IN = struct.Struct("=QII")
LINK_IN = struct.Struct("=Q")
READ_IN = struct.Struct("=QQIIQII")
WRITE_IN = struct.Struct("=QQIIQII")
RELEASE_IN = struct.Struct("=QIIQ")
FLUSH_IN = struct.Struct("=QIIQ")
FSYNC_IN = struct.Struct("=QII")
LOCK_IN = struct.Struct("=QQQQIIII")
LOCK_OUT = struct.Struct("=QQII")
LSEEK_IN = struct.Struct("=QQII")
FALLOCATE_IN = struct.Struct("=QQQII")
COPY_IN = struct.Struct("=QQQQQQQ")
FORGET_IN = struct.Struct("=Q")
BATCH_FORGET_IN = struct.Struct("=II")
FORGET_ONE = struct.Struct("=QQ")

NAME_MAX = 255
NANO = 1_000_000_000


def attributes(st: stat_result, number: int, uid: int, gid: int) -> bytes:
    """`st` for the guest: inode `number`, owned by `uid` and `gid` there."""
    mode = st.st_mode
    device = st.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
    return ATTRIBUTES.pack(
        number,
        st.st_size,
        st.st_blocks,
        st.st_atime_ns // NANO & 0xFFFFFFFFFFFFFFFF,
        st.st_mtime_ns // NANO & 0xFFFFFFFFFFFFFFFF,
        st.st_ctime_ns // NANO & 0xFFFFFFFFFFFFFFFF,
        st.st_atime_ns % NANO,
        st.st_mtime_ns % NANO,
        st.st_ctime_ns % NANO,
        mode,
        st.st_nlink,
        uid,
        gid,
        device & 0xFFFFFFFF,
        st.st_blksize,
        0,
    )


def directory_entry(number: int, offset: int, kind: int, name: bytes) -> bytes:
    """One entry of a READDIR answer; `offset` is where to go on after it."""
    size = DIRENT.size + len(name)
    return DIRENT.pack(number, offset, len(name), kind) + name + bytes(-size % 8)
