"""Errors that say nothing about what was asked for: this process, or this host, had too little to look at all.

Who takes one of them for "it is not there" takes a sandbox that runs for one that is gone.
"""

from __future__ import annotations

import errno

SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
NO_THREAD = "can't start new thread"  # the RuntimeError of Python's _thread, for want of memory or of processes


def is_scarcity(error: BaseException) -> bool:
    """Whether the error is of that kind."""
    if isinstance(error, OSError):
        return error.errno in SCARCE
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == NO_THREAD)
