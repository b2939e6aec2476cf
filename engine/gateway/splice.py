"""Bytes both ways, untouched: half-close, backpressure, an end for silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from engine.gateway.journal import JournalLine
from engine.gateway.limits import Limits
from engine.gateway.upstream import Streams
from vmm.connection import close_writer, pump


async def splice(
    guest: Streams,
    upstream: Streams,
    entry: JournalLine,
    limits: Limits,
    *,
    outgoing: Callable[[bytes], bytes] = bytes,
    incoming: Callable[[bytes], bytes] = bytes,
) -> None:
    """Copy until both sides are done, one breaks, or nothing moves for `idle_s` (`half_closed_s` after the first EOF).

    Counts into the entry. Closes neither side: their owner does. A broken or silent connection is not an error.
    `outgoing` sees what the guest sends and says what of it goes on now, `incoming` the same of what comes back; what
    they raise ends it.
    """

    def go_out(data: bytes) -> bytes:
        data = outgoing(data)
        entry.bytes_out += len(data)
        return data

    def come_in(data: bytes) -> bytes:
        data = incoming(data)
        entry.bytes_in += len(data)
        return data

    loop = asyncio.get_running_loop()
    patience = limits.idle_s
    with suppress(TimeoutError):
        async with asyncio.timeout(patience) as clock:

            def moved() -> None:
                clock.reschedule(loop.time() + patience)

            chunk = limits.chunk_bytes
            pumps = {
                asyncio.create_task(pump(guest[0], upstream[1], chunk_bytes=chunk, change=go_out, moved=moved)),
                asyncio.create_task(pump(upstream[0], guest[1], chunk_bytes=chunk, change=come_in, moved=moved)),
            }
            running = pumps
            try:
                while running:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    if any(isinstance(task.exception(), OSError) for task in done):
                        break  # half a connection is of no use to either side
                    for task in done:
                        task.result()
                    patience = limits.half_closed_s
                    moved()
            finally:
                await finish(*pumps)


async def finish(*tasks: asyncio.Task[None]) -> None:
    """Cancel what still runs and wait for all of it; the tasks' own errors are not raised."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def hang_up(streams: Streams, last_words: bytes, limits: Limits) -> None:
    """Say something, then close, giving the other side `linger_s` to read it and to stop sending.

    Closing at once, with bytes of the guest still unread, would reset the connection under the answer.
    """
    reader, writer = streams
    with suppress(OSError):  # includes TimeoutError
        async with asyncio.timeout(limits.linger_s):
            writer.write(last_words)
            await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(limits.chunk_bytes):
                pass
    await close(streams, limits)


async def close(streams: Streams, limits: Limits) -> None:
    """Flush and close within `linger_s`; then, and on cancellation, drop the connection."""
    await close_writer(streams[1], limits.linger_s)
