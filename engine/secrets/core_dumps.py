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

        # One byte: less than any core file, and the one limit at which Linux does not pipe the dump to a program.
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        limit = 0 if most == 0 else 1
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    if sys.platform == "linux":
        import ctypes

        # No core dump whatever the limit is; and ptrace and /proc/PID/mem are closed to other processes of the same
        # user, but for root's.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
