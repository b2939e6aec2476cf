"""Ports on the host's loopback that lead into a machine, through its channel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self

from vmm.channel.forward import forward
from vmm.channel.guest import GuestChannel
from vmm.connection import drop
from vmm.errors import VmmError
from vmm.guest.guestd.wire import MAX_CONNECTIONS
from vmm.spec import HostForward

QUEUED = 1024  # connections that the kernel has made and nobody has taken yet


class OpenPorts:
    """The ports of the host that lead into a machine: its own for the length of a `with` block.

    They are on 127.0.0.1 and on ::1, which many programs try first. What connects before the machine is `serving`
    waits for it. Entering raises VmmError when one is taken. `held` are listeners, (port, socket), that are there.
    """

    def __init__(self, forwards: Iterable[HostForward], held: Iterable[tuple[int, socket.socket]] = ()) -> None:
        self._initial = tuple(forwards)
        self._held = tuple(held)
        self._open: dict[HostForward, Port] = {}
        self._channel: GuestChannel | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)  # the guest refuses more; they wait for others to end

    @property
    def forwards(self) -> tuple[HostForward, ...]:
        """What is open now."""
        return tuple(self._open)

    @property
    def connections(self) -> int:
        """How many connections from the host there are now."""
        return len(self._connections)

    def __enter__(self) -> Self:
        try:
            for wanted in self._initial:
                self._open[wanted] = Port(wanted, [one for port, one in self._held if port == wanted.host_port])
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def let_go(self) -> list[tuple[int, socket.socket]]:
        """Take no more connections here, and return the listeners, (port, socket), which stay open: what connects from
        now on waits for whoever listens next. Raises OSError; then nobody has them any more."""
        held: list[tuple[int, socket.socket]] = []
        try:
            for wanted, port in self._open.items():
                for one in port.listeners:
                    held.append((wanted.host_port, one.dup()))
        except OSError:
            for _, one in held:
                one.close()
            raise
        finally:
            self._close()
        return held

    def _close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    @contextlib.asynccontextmanager
    async def serving(self, channel: GuestChannel) -> AsyncIterator[None]:
        """Carry what connects to the guest behind `channel`, for the length of the block; then all are cut."""
        self._channel = channel
        try:
            for wanted, port in self._open.items():
                await self._serve(wanted, port)
            yield
        finally:
            self._channel = None
            self._close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def change(self, wanted: Iterable[HostForward]) -> None:
        """Close what is not wanted, then open what is missing. Raises VmmError; `forwards` is right even then.

        Connections to a port that is closed go on until they end.
        """
        wanted = tuple(wanted)
        for gone in set(self._open).difference(wanted):
            self._open.pop(gone).close()
        for missing in wanted:
            if missing not in self._open:
                port = self._open[missing] = Port(missing)
                await self._serve(missing, port)

    async def _serve(self, wanted: HostForward, port: Port) -> None:
        for listener in port.listeners:
            accept = functools.partial(self._accept, wanted.guest_port)
            port.servers.append(await asyncio.start_server(accept, sock=listener, backlog=QUEUED))

    def _accept(self, guest_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine, so that the task is ours from the start and not the stream library's."""
        if self._channel is None:  # accepted just before the end
            drop(writer)
            return
        carrying = self._carry(self._channel, guest_port, reader, writer)
        task = asyncio.create_task(carrying, name=f"connection to port {guest_port} of the guest")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(
        self, channel: GuestChannel, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with self._room:
                await forward(channel, port, reader, writer)
        finally:
            drop(writer)


class Port:
    """The listeners of one port of the host. Raises VmmError when somebody has it on the forward's own address."""

    def __init__(self, wanted: HostForward, held: Iterable[socket.socket] = ()) -> None:
        self.servers: list[asyncio.Server] = []
        self.listeners: list[socket.socket] = list(held)
        if self.listeners:
            return
        address = (wanted.host_address, wanted.host_port)
        try:
            self.listeners.append(socket.create_server(address, backlog=QUEUED))
        except OSError as error:
            where, hint = ":".join(map(str, address)), None
            if error.errno == errno.EADDRINUSE:
                found = f"ss -ltnp 'sport = :{wanted.host_port}'"
                hint = f"another program has taken it meanwhile: choose another, or find who has it: {found}"
            raise VmmError(f"port {where} of the host could not be opened", error.strerror, hint) from error
        with contextlib.suppress(OSError):  # no IPv6 here, or somebody else has it there
            six = socket.create_server(("::1", wanted.host_port), family=socket.AF_INET6, backlog=QUEUED)
            self.listeners.append(six)

    def close(self) -> None:
        for server in self.servers:
            server.close()
        for listener in self.listeners:
            listener.close()
