"""How fast a guest may send and receive, over all its connections together: `machine.network_rate`.

What has gone through is paid for by waiting before the next of it: a moment's burst costs as much as a steady flow. The
wait comes before a read, never after it, so that nothing that was read is lost when the waiting is given up.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from engine.gateway.upstream import Streams

_SHARE_S = 0.05  # of a second's bytes in one read: many connections at once run up no long debt
_LEAST = 4096  # bytes of one read
_NAP_S = 1.0  # the rate may change meanwhile


class Pace:
    """The pace of one guest. `rate` is in bytes per second, both directions together; None: as fast as it goes."""

    def __init__(self, rate: int | None = None) -> None:
        self.rate = rate
        self._paid = 0.0  # when all that went through will have been waited for, in the loop's time

    def spend(self, count: int) -> None:
        """So many bytes went through."""
        if self.rate is not None:
            self._paid = max(self._paid, asyncio.get_running_loop().time()) + count / self.rate

    async def ready(self) -> None:
        """Wait until the next bytes may go."""
        loop = asyncio.get_running_loop()
        while self.rate is not None and (wait_s := self._paid - loop.time()) > 0:  # noqa: ASYNC110 - no event, but time
            await asyncio.sleep(min(wait_s, _NAP_S))

    def at_once(self, size: int) -> int:
        """How much of `size` bytes to take in one read."""
        return size if self.rate is None or size < 0 else min(size, max(int(self.rate * _SHARE_S), _LEAST))

    def over(self, streams: Streams) -> Streams:
        """The guest's connection, at this pace."""
        reader, writer = streams
        return cast("Streams", (_Reader(reader, self), _Writer(writer, self)))


class _Reader:
    def __init__(self, reader: asyncio.StreamReader, pace: Pace) -> None:
        self._reader = reader
        self._pace = pace

    async def read(self, size: int = -1) -> bytes:
        await self._pace.ready()
        data = await self._reader.read(self._pace.at_once(size))
        self._pace.spend(len(data))
        return data


class _Writer:
    def __init__(self, writer: asyncio.StreamWriter, pace: Pace) -> None:
        self._writer = writer
        self._pace = pace

    def write(self, data: bytes) -> None:
        self._pace.spend(len(data))
        self._writer.write(data)

    async def drain(self) -> None:
        await self._pace.ready()
        await self._writer.drain()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)
