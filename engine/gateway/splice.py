"""Bytes both ways, untouched: half-close, backpressure, an end for silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from engine.gateway.journal import Entry
from engine.gateway.limits import Limits
from engine.gateway.upstream import Streams
from vmm.connection import close_writer


async def splice(
    guest: Streams,
    upstream: Streams,
    entry: Entry,
    limits: Limits,
    *,
    outgoing: Callable[[bytes], bytes] = bytes,
    incoming: Callable[[bytes], None] = lambda data: None,
) -> None:
    """Copy until both sides are done, one breaks, or nothing moves for `idle_s` (`half_closed_s` after the first EOF).

    Counts into the entry. Closes neither side: their owner does. A broken or silent connection is not an error.
    `outgoing` sees what the guest sends and says what of it goes on now, `incoming` sees what comes back before the
    guest does; what they raise ends it.
    """

    def count_out(size: int) -> None:
        entry.bytes_out += size

    def count_in(size: int) -> None:
        entry.bytes_in += size

    def see(data: bytes) -> bytes:
        incoming(data)
        return data

    loop = asyncio.get_running_loop()
    patience = limits.idle_s
    with suppress(TimeoutError):
        async with asyncio.timeout(patience) as clock:

            def moved() -> None:
                clock.reschedule(loop.time() + patience)

            chunk = limits.chunk_bytes
            pumps = {
                asyncio.create_task(_pump(guest[0], upstream[1], chunk, outgoing, count_out, moved)),
                asyncio.create_task(_pump(upstream[0], guest[1], chunk, see, count_in, moved)),
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


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    chunk: int,
    judge: Callable[[bytes], bytes],
    count: Callable[[int], None],
    moved: Callable[[], None],
) -> None:
    while data := await reader.read(chunk):
        data = judge(data)
        writer.write(data)
        count(len(data))
        moved()
        await writer.drain()  # the reader stops reading, and so the far end sending, while this side is slow
        moved()
    if writer.can_write_eof():
        writer.write_eof()


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
