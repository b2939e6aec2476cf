"""What a child writes to its standard error: always read, so that it never waits, and of it the end is kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from types import TracebackType
from typing import Self

KEPT = 16 * 1024  # a guest can make QEMU complain without end
READ_SIZE = 1 << 16
# What Python ends with for want of memory or descriptors; the fourth is of functions of its own that forget to say it.
SCARCE = ("MemoryError", "OSError: ", "ImportError: ", "SystemError: ", "RuntimeError: can't start new thread")
FATAL, STATE, BEGUN = "Fatal Python error: ", "Python runtime state: ", "initialized"  # Python/pylifecycle.c
ERROR = re.compile(r"\w+Error(: |$)")


def without_traceback(text: str) -> str:
    """Of words with a traceback that says no more than that something was scarce, the one line that says that.

    That is where Python ended for want of memory or descriptors. Of a Python that could not even begin it is what
    Python says of that, and the error that it met.
    """
    lines = text.splitlines()
    fatal = [line for line in lines if line.startswith(FATAL)]
    states = [line.removeprefix(STATE) for line in lines if line.startswith(STATE)]
    if fatal and states and states[-1] != BEGUN:
        met = [line.strip() for line in lines if ERROR.match(line.strip())]
        return f"Python could not begin: {'; '.join([fatal[-1].removeprefix(FATAL), *met[-1:]])}"
    if lines and lines[-1].startswith(SCARCE) and any(line.startswith("Traceback ") for line in lines):
        return lines[-1]
    return text


class LastWords:
    """A pipe, to be given to `spawn` as `stderr`. A context manager, for the loop of the thread that enters it.

    Several children may write to it, one after another.
    """

    def __init__(self, keep: int = KEPT) -> None:
        self._keep = keep
        self._tail = bytearray()
        self._reader = self._writer = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        os.close(self._writer)
        self._reader = self._writer = -1

    def fileno(self) -> int:
        """The end to write to, which stays open here: so the loop never sees its end, and has nothing to do then."""
        return self._writer

    def text(self, limit: int = KEPT) -> str:
        """The last words so far; of a child that has ended, all that it said last, `without_traceback`."""
        if self._reader >= 0:
            # As much as the pipe holds and no more: a child that lives may say the next thing at once.
            for _ in range(2):
                self._read()
        return without_traceback(bytes(self._tail[-min(limit, self._keep) :]).decode(errors="replace").strip())

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._tail += os.read(self._reader, READ_SIZE)
            if len(self._tail) > self._keep:
                del self._tail[: -self._keep]
