"""Errors that say nothing about what was asked for: this process, or this host, had too little to look at all.

Who takes one of them for "it is not there" takes a sandbox that runs for one that is gone.
"""

from __future__ import annotations

import contextlib
import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
NO_THREAD = "can't start new thread"  # the RuntimeError of Python's _thread, for want of memory or of processes


def is_scarcity(error: BaseException) -> bool:
    """Whether the error is of that kind."""
    if isinstance(error, OSError):
        return error.errno in SCARCE
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == NO_THREAD)


def raise_if_scarce(error: OSError) -> None:
    """For `os.walk`, which else takes a directory that cannot be opened for an empty one."""
    if is_scarcity(error):
        raise error


@contextlib.contextmanager
def closed_after(runner: asyncio.Runner) -> Iterator[asyncio.Runner]:
    """Close it after the block. Python starts a thread to wait for idle ones; where it cannot, all is done anyway."""
    try:
        yield runner
    finally:
        try:
            runner.close()
        except RuntimeError as error:
            if not is_scarcity(error):
                raise
