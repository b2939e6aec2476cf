"""Ends of asyncio's connections."""

from __future__ import annotations

import asyncio
import contextlib


async def close_writer(writer: asyncio.StreamWriter, flush_s: float) -> None:
    """Close it; what is still queued gets `flush_s` to leave, as the peer may never read again. Then it is dropped."""
    try:
        with contextlib.suppress(OSError):  # TimeoutError included
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
