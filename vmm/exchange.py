"""Two names of a directory tree that change places in one step: nobody ever sees either of them missing."""

from __future__ import annotations

import ctypes
import errno
import os

_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_UNABLE = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP)


def exchange(one: str, other: str, *, one_in: int, other_in: int) -> bool:
    """`one` in the open directory `one_in` and `other` in `other_in` change places; no link is followed.

    False where the system, or the file system, cannot do it. Raises OSError, as when one of them is missing.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    if library.renameat2(one_in, os.fsencode(one), other_in, os.fsencode(other), _EXCHANGE) == 0:
        return True
    if (code := ctypes.get_errno()) in _UNABLE:
        return False
    raise OSError(code, os.strerror(code), other)
