"""What of a machine can be begun before anything is known about its gateway: its memory, its disk, its carrier.

Each takes a tenth of a second and another program. A supervisor begins them while it loads the rest of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.guest.base import Base
from vmm.carrier import Carrier, Door, open_carrier
from vmm.disk import write_overlay
from vmm.errors import VmmError
from vmm.machine import Machine, start_machine
from vmm.memory import fill_memory, make_memory, open_memory
from vmm.snapshot import Snapshot
from vmm.spec import MachineSpec
from vmm.tools import Tools


@dataclass(frozen=True)
class HeldMemory:
    """The `descriptor` of a machine's memory, and when it is `filled`. Not `shared`: it is the snapshot's own file, to
    be mapped privately; or None, and the memory is QEMU's own, which comes with the state of its devices."""

    descriptor: int | None
    filled: asyncio.Future[None]
    shared: bool


@dataclass(frozen=True)
class Begun:
    """Parts of a machine that are on their way; `disk` says when its writable disk is there.

    `machine` is the machine itself, which stands still with the state of its devices loaded; its result is None where
    it cannot be started yet.
    """

    memory: HeldMemory
    carrier: asyncio.Future[Carrier]
    disk: asyncio.Future[None]
    machine: asyncio.Future[Machine | None]
    end_machine: Callable[[], Awaitable[None]]

    async def started(self) -> Machine | None:
        """The machine, if it could be begun; else its disk is there. Raises VmmError as `start_restored` does."""
        await asyncio.shield(self.disk)
        return await asyncio.shield(self.machine)


@dataclass(frozen=True)
class Early:
    """A machine that may start before its gateway is loaded: it has no live mounts from before, and no names yet."""

    base: Base
    name: str
    parent: Snapshot
    console_log: Path


@contextlib.asynccontextmanager
async def begin(
    tools: Tools,
    doors: Sequence[Door],
    *,
    size: int,
    shared: bool,
    ram: Path | None,
    disk: tuple[Path, Path] | None,
    early: Early | None = None,
) -> AsyncIterator[Begun]:
    """Begin a machine of `size` bytes of memory, filled from `ram` where that is a file, for the block's length.

    `disk` is its own disk, which is made, and the snapshot's below it; None for one that is there. `early` is the
    machine, where it can be started with that alone. Raises OSError; what fails later is raised by who awaits it.
    """
    async with contextlib.AsyncExitStack() as stack:
        memory = await stack.enter_async_context(hold_memory(size, ram, shared=shared))
        carrier = await stack.enter_async_context(_carrying(tools, doors))
        made = asyncio.ensure_future(_make(disk))
        stack.push_async_callback(_leave, made)
        own = contextlib.AsyncExitStack()
        starting = asyncio.ensure_future(_start(early, disk, memory, carrier, made, own))
        stack.push_async_callback(own.aclose)
        stack.push_async_callback(_leave, starting)
        yield Begun(memory, carrier, made, starting, own.aclose)


async def _start(
    early: Early | None,
    disk: tuple[Path, Path] | None,
    memory: HeldMemory,
    carrier: asyncio.Future[Carrier],
    made: asyncio.Future[None],
    own: contextlib.AsyncExitStack,
) -> Machine | None:
    """Start the machine within `own`, if that is possible with what there is."""
    if early is None or disk is None:
        return None
    carried = await asyncio.shield(carrier)
    if carried.kind != "passt":
        return None  # its network leads to sockets of the gateway
    await asyncio.shield(made)
    spec = early.base.machine(early.name, disk[0], memory.descriptor, memory.shared, carried.network({}), early.parent)
    starting = start_restored(spec, early.base.tools, carried, memory, early.parent, early.console_log)
    return await own.enter_async_context(starting)


@contextlib.asynccontextmanager
async def start_restored(
    spec: MachineSpec, tools: Tools, carrier: Carrier, memory: HeldMemory, parent: Snapshot | None, log: Path | None
) -> AsyncIterator[Machine]:
    """A machine for the length of the block; with `parent`, it stands still and has the state of its devices."""
    inherited = () if memory.descriptor is None else (memory.descriptor,)
    async with start_machine(spec, tools, carrier, console_log=log, pass_fds=inherited) as machine:
        if parent is not None:
            await asyncio.shield(memory.filled)  # devices look at their rings in it while they are loaded
            await machine.load(parent.state)
        yield machine


@contextlib.asynccontextmanager
async def hold_memory(size: int, template: Path | None, *, shared: bool) -> AsyncIterator[HeldMemory]:
    """The memory of a machine, which is filled from `template` while the machine starts; closed with the block.

    Shared memory is a copy: QEMU would punch the pages that the guest reports as free out of the snapshot's very file,
    and every later clone would find zeros there. Raises OSError.
    """
    if template is None and not shared:
        yield HeldMemory(None, asyncio.ensure_future(asyncio.sleep(0)), shared)
        return
    if template is not None and not shared:
        descriptor = open_memory(size, template)
        filling = asyncio.ensure_future(asyncio.sleep(0))
    else:
        descriptor = make_memory(size)
        filling = asyncio.ensure_future(_fill(descriptor, size, template))
    try:
        yield HeldMemory(descriptor, filling, shared)
    finally:
        with contextlib.suppress(OSError, VmmError):  # whoever awaited it has heard
            await filling  # the thread cannot be stopped, and writes to the descriptor
        os.close(descriptor)


async def _make(disk: tuple[Path, Path] | None) -> None:
    if disk is not None:
        path, backing = disk
        write_overlay(path, backing, "qcow2")


async def _fill(descriptor: int, size: int, template: Path | None) -> None:
    if template is not None:
        await asyncio.to_thread(fill_memory, descriptor, size, template)


@contextlib.asynccontextmanager
async def _carrying(tools: Tools, doors: Sequence[Door]) -> AsyncIterator[asyncio.Future[Carrier]]:
    async with contextlib.AsyncExitStack() as stack:
        opening = asyncio.ensure_future(stack.enter_async_context(open_carrier(tools, doors)))
        try:
            yield opening
        finally:
            await _leave(opening)


async def _leave(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
