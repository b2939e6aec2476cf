"""A connection of the host, carried to a port of the guest."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from typing import Any

from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.channel.stream import Stream
from vmm.connection import drop

CHUNK_BYTES = 1 << 16
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: closing tells the peer that the connection broke


async def forward(channel: GuestChannel, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Join the connection to whoever listens on `port` of the guest's loopback, until both sides have said all.

    The end of either direction goes on by itself. Where the guest refuses, or a side breaks, the other side hears that
    it broke. The connection is closed, however this ends; what the guest sent last still leaves.
    """
    try:
        async with channel.open("connect", port=port) as stream:
            await _both(_upward(reader, stream), _downward(stream, writer))
        writer.close()
        await writer.wait_closed()  # a client may take its time to read the last of it
    except (GuestError, OSError):
        _break(writer)
    except BaseException:
        drop(writer)
        raise


async def _both(*directions: Coroutine[Any, Any, None]) -> None:
    """Wait for all; when one fails, the others end with it."""
    tasks = [asyncio.ensure_future(direction) for direction in directions]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _upward(reader: asyncio.StreamReader, stream: Stream) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await stream.send(data)  # waits for credit, and meanwhile the client for us
    stream.send_eof()


async def _downward(stream: Stream, writer: asyncio.StreamWriter) -> None:
    while (chunk := await stream.receive()) is not None:
        writer.write(chunk[1])
        await writer.drain()
    writer.write_eof()
    await stream.result()


def _break(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, AttributeError):  # it may be gone
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    drop(writer)
