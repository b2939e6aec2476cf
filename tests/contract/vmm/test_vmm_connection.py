"""Closing asyncio's connections, over a real socket pair."""

from __future__ import annotations

import asyncio
import socket

import pytest

from vmm.connection import close_writer, drop

SIZE = 1 << 20  # more than the two sockets hold


async def connect() -> tuple[asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamWriter]:
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=ours)
    reader, back = await asyncio.open_connection(sock=theirs)
    return writer, reader, back


def test_what_is_queued_leaves_first() -> None:
    async def scenario() -> None:
        writer, reader, back = await connect()
        writer.write(bytes(SIZE))
        closing = asyncio.create_task(close_writer(writer, 20))
        assert len(await reader.read(-1)) == SIZE
        await closing  # once, abort() after that was an AttributeError
        drop(writer)
        back.close()

    asyncio.run(scenario())


def test_a_peer_that_does_not_read_is_dropped() -> None:
    async def scenario() -> None:
        writer, reader, back = await connect()
        writer.write(bytes(SIZE))
        await close_writer(writer, 0.01)
        assert len(await reader.read(-1)) < SIZE
        back.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("flush_s", [0.01, 20.0])
def test_a_peer_that_is_gone(flush_s: float) -> None:
    async def scenario() -> None:
        writer, _, back = await connect()
        drop(back)
        writer.write(b"x")
        await close_writer(writer, flush_s)
        drop(writer)

    asyncio.run(scenario())
