"""No core dump of a process that holds values, and no look into its memory by the user's other processes."""

from __future__ import annotations

import contextlib
import sys

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """For the rest of this process's life. Its children inherit the limit; they can be debugged again after `exec`.

    Where the system cannot do it nothing happens: it is a second wall.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        # A limit of 0 means nothing to a system that pipes core dumps into a program; this does. And ptrace and
        # /proc/PID/mem are closed to other processes of the same user, but for root's.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
