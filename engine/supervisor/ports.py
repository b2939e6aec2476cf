"""Ports on the host's loopback that lead into a machine, and the IPv6 half that QEMU does not open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Protocol, Self

from vmm.connection import drop, pump
from vmm.spec import HostForward


class Forwarder(Protocol):
    """What opens and closes ports of a running machine: vmm.machine.Machine."""

    async def add_forward(self, forward: HostForward) -> None: ...

    async def remove_forward(self, forward: HostForward) -> None: ...


class OpenPorts:
    """The ports of the host that lead into a machine, each with its IPv6 half for the length of an `async with` block.

    The machine was started with `forwards`; `change` opens and closes while it runs.
    """

    def __init__(self, machine: Forwarder, forwards: Iterable[HostForward]) -> None:
        self._machine = machine
        self._initial = tuple(forwards)
        self._open: dict[HostForward, contextlib.AsyncExitStack] = {}

    @property
    def forwards(self) -> tuple[HostForward, ...]:
        """What is open now."""
        return tuple(self._open)

    async def __aenter__(self) -> Self:
        try:
            for forward in self._initial:
                await self._relay(forward)
        except BaseException:  # cancelled half-way: nobody else would close what is open by now
            await self._close_all()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close_all()

    async def _close_all(self) -> None:
        """Close each, whatever happens to another. Raises the last failure when all have been tried."""
        async with contextlib.AsyncExitStack() as all_of_them:
            while self._open:
                all_of_them.push_async_exit(self._open.pop(next(iter(self._open))))

    async def change(self, wanted: Iterable[HostForward]) -> None:
        """Close what is not wanted, then open what is missing. Raises VmmError; `forwards` is right even then."""
        wanted = tuple(wanted)
        for forward in set(self._open).difference(wanted):
            await self._machine.remove_forward(forward)
            await self._open.pop(forward).aclose()
        for forward in wanted:
            if forward not in self._open:
                await self._machine.add_forward(forward)
                await self._relay(forward)

    async def _relay(self, forward: HostForward) -> None:
        stack = self._open[forward] = contextlib.AsyncExitStack()
        await stack.enter_async_context(relay_ipv6(forward.host_port))


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
            await asyncio.gather(pump(reader, other), pump(other_reader, writer))
        except (OSError, asyncio.CancelledError):
            # refused or reset by one side, or we are leaving: nobody is there to be told
            for end in (writer, other):
                if end is not None:
                    drop(end)
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
