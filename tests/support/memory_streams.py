"""A side of a connection in memory, for the gateway's sessions: what it sends is given, what it gets is kept."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from engine.gateway.tlsio import TlsStream
from engine.gateway.upstream import Streams


class MemoryStream:
    """Sends `pieces`, then waits for `before_end` and ends. `hear` is told of what it gets, and may send more."""

    def __init__(
        self,
        pieces: Iterable[bytes] = (),
        *,
        before_end: asyncio.Event | None = None,
        hear: Callable[[MemoryStream], None] | None = None,
        alpn: str | None = None,
    ) -> None:
        self.alpn = alpn
        self.got = bytearray()
        self.empty = asyncio.Event()  # all has been taken, or nobody will take any more
        self.heard = asyncio.Event()  # it has got something
        self.transport = self
        self.answers = 0  # for `hear` to count
        self._pieces = deque(piece for piece in pieces if piece)
        self._after: asyncio.Event | None = None
        self._before_end = before_end
        self._hear = hear
        self._more = asyncio.Event()
        self._closed = False

    @property
    def streams(self) -> Streams:
        return cast(Streams, (self, self))

    @property
    def tls(self) -> TlsStream:
        return cast(TlsStream, self)

    def wait_for(self, event: asyncio.Event) -> None:
        """Send nothing before that."""
        self._after = event

    def send(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self._more.set()

    async def read(self, size: int = -1) -> bytes:
        if self._after is not None:
            await self._after.wait()
        if not self._pieces:
            self.empty.set()
            if self._hear is not None and not self._closed:
                self._more.clear()
                await self._more.wait()
            elif self._before_end is not None:
                await self._before_end.wait()
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        if 0 <= size < len(piece):
            self._pieces.appendleft(piece[size:])
            piece = piece[:size]
        return piece

    def write(self, data: bytes) -> None:
        self.got += data
        self.heard.set()
        if self._hear is not None:
            self._hear(self)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        self._closed = True
        self.empty.set()
        self._more.set()

    abort = cut = close

    def is_closing(self) -> bool:
        return self._closed

    async def wait_closed(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default
