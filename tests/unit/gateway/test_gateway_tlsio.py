"""TLS that has to answer what it reads: whoever takes no answers is not read from."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

import pytest

from engine.gateway.tlsio import TlsStream
from engine.gateway.upstream import Streams

UPDATE, ANSWER = b"update", b"answer"


class _Peer:
    """Asks for an update with each read, and takes answers only when it may. Then it says something, or is gone."""

    def __init__(self) -> None:
        self.transport = None
        self.reads = self.written = 0
        self.takes = asyncio.Event()
        self.waited_for = asyncio.Event()
        self.gone = False

    async def read(self, size: int) -> bytes:
        self.reads += 1
        if self.reads > 1000:
            pytest.fail("it is read from, and takes no answers")
        return b"data" if self.takes.is_set() or self.gone else UPDATE

    def write(self, data: bytes) -> None:
        self.written += len(data)

    async def drain(self) -> None:
        self.waited_for.set()
        if self.gone:
            raise ConnectionResetError
        await self.takes.wait()

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **_: Any) -> _Tls:
        return _Tls(incoming, outgoing)


class _Tls:
    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    def read(self, size: int) -> bytes:
        data = self._incoming.read()
        if data == UPDATE:
            self._outgoing.write(ANSWER)
        if data in (UPDATE, b""):
            raise ssl.SSLWantReadError
        return data


async def answered(peer: _Peer, reading: asyncio.Task[bytes]) -> None:
    """Wait until the stream waits for the peer to take its answer."""
    waiting = asyncio.create_task(peer.waited_for.wait())
    await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert not reading.done(), reading.exception()


def over(peer: _Peer) -> TlsStream:
    return TlsStream(cast(Streams, (peer, peer)), cast(ssl.SSLContext, peer))


def test_a_peer_that_makes_us_answer_and_takes_nothing_is_not_read_on() -> None:
    async def scenario() -> None:
        peer = _Peer()
        reading = asyncio.create_task(over(peer).read(100))
        await answered(peer, reading)
        assert (peer.reads, peer.written) == (1, len(ANSWER))
        peer.takes.set()
        assert await reading == b"data"

    asyncio.run(scenario())


def test_a_read_that_is_given_up_meanwhile_waits_again_with_the_next() -> None:
    async def scenario() -> None:
        peer = _Peer()
        stream = over(peer)
        for _ in range(3):
            peer.waited_for.clear()
            reading = asyncio.create_task(stream.read(100))
            await answered(peer, reading)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert (peer.reads, peer.written) == (1, len(ANSWER))
        peer.takes.set()
        assert await stream.read(100) == b"data"

    asyncio.run(scenario())


def test_what_came_before_the_end_is_read_though_the_answer_cannot_be_sent() -> None:
    async def scenario() -> None:
        peer = _Peer()
        stream = over(peer)
        reading = asyncio.create_task(stream.read(100))
        await answered(peer, reading)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        peer.gone = True
        assert await stream.read(100) == b"data"

    asyncio.run(scenario())
