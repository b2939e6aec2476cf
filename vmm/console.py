"""The serial console: a bounded log on disk and the last lines in memory, for last words."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from pathlib import Path

from vmm.lines import LineSplitter
from vmm.rotated_log import RotatedLog

LOG_LIMIT = 8 * 1024 * 1024  # a guest can print without end; the host's disk must not notice
TAIL_LINES = 40


class Console:
    """Reads one end of the console's socket until it closes and keeps at most twice LOG_LIMIT bytes on disk."""

    def __init__(self, connection: socket.socket, log: Path | None) -> None:
        self._connection = connection
        self._log = RotatedLog(log, LOG_LIMIT) if log else None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._lines = LineSplitter()
        self._arrived = asyncio.Condition()

    def last_words(self) -> str:
        """The last lines the guest printed."""
        return "\n".join(filter(None, (*self._tail, self._lines.unfinished)))

    async def wait_for(self, text: str, timeout_s: float) -> str:
        """Wait until a line with `text` is among the last ones and return it; raises TimeoutError."""

        def found() -> str | None:
            return next((line for line in self.last_words().splitlines() if text in line), None)

        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: found() is not None)
        return found() or ""

    async def read(self) -> None:
        """The reader's loop: run as a task, ends when QEMU closes the socket.

        A log that cannot be written (disk full) is given up, not the reading: QEMU would stop at a full socket.
        """
        loop = asyncio.get_running_loop()
        self._connection.setblocking(False)
        try:
            with contextlib.suppress(ConnectionResetError):
                while chunk := await loop.sock_recv(self._connection, 65536):
                    try:
                        if self._log:
                            self._log.write(chunk)
                    except OSError:
                        self._close_log()
                    await self._take(chunk)
        finally:
            self._close_log()

    def _close_log(self) -> None:
        if self._log:
            self._log.close()
            self._log = None

    async def _take(self, chunk: bytes) -> None:
        self._tail.extend(self._lines.feed(chunk))
        async with self._arrived:
            self._arrived.notify_all()
