"""Ports on the host's loopback: is one free, find one, and the IPv6 half that QEMU does not open."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator


def port_is_free(port: int) -> bool:
    """Whether something could listen on 127.0.0.1:`port` now. May raise PermissionError for ports below 1024."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def pick_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def relay_ipv6(port: int) -> AsyncIterator[None]:
    """Serve [::1]:`port` by 127.0.0.1:`port`: many programs try localhost by IPv6 first. Nothing where IPv6 is off."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        other: asyncio.StreamWriter | None = None
        try:
            other_reader, other = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pump(reader, other), _pump(other_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # refused or reset by one side, or we are leaving: nobody is there to be told
        finally:
            tasks.discard(task)
            writer.close()
            if other is not None:
                other.close()

    try:
        server = await asyncio.start_server(serve, "::1", port)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, asyncio.CancelledError):
        writer.transport.abort()
        raise
