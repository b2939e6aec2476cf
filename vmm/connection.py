"""Bytes through asyncio's connections, and their ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


async def pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    chunk_bytes: int = 65536,
    change: Callable[[bytes], bytes] = bytes,
    moved: Callable[[], None] = lambda: None,
) -> None:
    """Copy until the reader's end, which the writer's other side is told.

    `change` sees every chunk and says what goes on of it; `moved` is called when bytes came, and when the writer has
    taken them. Raises OSError when a side breaks, and what `change` raises.
    """
    while data := await reader.read(chunk_bytes):
        writer.write(change(data))
        moved()
        await writer.drain()  # the reader stops reading, and so the far end sending, while this side is slow
        moved()
    if writer.can_write_eof():
        writer.write_eof()


async def close_writer(writer: asyncio.StreamWriter, flush_s: float) -> None:
    """Close it; what is still queued gets `flush_s` to leave, as the peer may never read again. Then it is dropped."""
    try:
        with contextlib.suppress(OSError, MemoryError):  # TimeoutError included; what was read is of no use any more
            async with asyncio.timeout(flush_s):
                writer.close()
                await writer.wait_closed()
    finally:
        drop(writer)


def drop(writer: asyncio.StreamWriter) -> None:
    """End the connection at once, also one that has ended already."""
    # A transport that was closed with bytes still queued, and then got rid of them, does not know that it has ended:
    # its `abort` asks a loop that it has no more.
    with contextlib.suppress(AttributeError):
        writer.transport.abort()
