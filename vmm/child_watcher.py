"""How the end of a child is heard of: by a pidfd, as Python 3.12 does by itself, and not by a thread for each.

Where there is no memory for a thread, the child has been started already when that shows, and nobody would end it.
Python 3.11 has such a watcher, but it serves one loop alone (asyncio.PidfdChildWatcher).
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Callable
from typing import TypeVarTuple

LOST = 255  # what asyncio's own watchers say of a child that somebody else has waited for
Ts = TypeVarTuple("Ts")

if sys.version_info < (3, 12):

    class Watcher(asyncio.AbstractChildWatcher):
        """One for all loops of this process."""

        def add_child_handler(self, pid: int, callback: Callable[[int, int, *Ts], object], *args: *Ts) -> None:
            """In the running loop, call `callback` with the pid, its exit code and `args` when it has ended. Raises
            OSError."""
            loop = asyncio.get_running_loop()
            pidfd = os.pidfd_open(pid)

            def ended() -> None:
                loop.remove_reader(pidfd)
                os.close(pidfd)
                try:
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                except ChildProcessError:
                    code = LOST
                callback(pid, code, *args)

            loop.add_reader(pidfd, ended)

        def remove_child_handler(self, pid: int) -> bool:
            """asyncio never asks for that."""
            raise NotImplementedError

        def attach_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
            """Nothing: it serves whichever loop runs."""

        def is_active(self) -> bool:
            """Always."""
            return True

        def close(self) -> None:
            """Nothing: each loop closes its own."""

        def __enter__(self) -> Watcher:
            return self

        def __exit__(self, *error: object) -> None:
            pass


@functools.cache
def watch_without_threads() -> None:
    """Have all children watched so, where Python does not do it by itself and the kernel can (Linux 5.3)."""
    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return
        asyncio.set_child_watcher(Watcher())
