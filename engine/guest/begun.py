"""What of a machine can be begun before anything is known about its gateway: its memory, its disk, its carrier.

Each takes a tenth of a second and another program. A supervisor begins them while it loads the rest of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmm.carrier import Carrier, Door, open_carrier
from vmm.disk import write_overlay
from vmm.errors import VmmError
from vmm.memory import fill_memory, make_memory, open_memory
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
    """Parts of a machine that are on their way; `disk` says when its writable disk is there."""

    memory: HeldMemory
    carrier: asyncio.Future[Carrier]
    disk: asyncio.Future[None]


@contextlib.asynccontextmanager
async def begin(
    tools: Tools, doors: Sequence[Door], *, size: int, shared: bool, ram: Path | None, disk: tuple[Path, Path] | None
) -> AsyncIterator[Begun]:
    """Begin a machine of `size` bytes of memory, filled from `ram` where that is a file, for the block's length.

    `disk` is its own disk, which is made, and the snapshot's below it; None for one that is there. Raises OSError; what
    fails later is raised by who awaits it.
    """
    async with contextlib.AsyncExitStack() as stack:
        memory = await stack.enter_async_context(hold_memory(size, ram, shared=shared))
        carrier = await stack.enter_async_context(_carrying(tools, doors))
        made = asyncio.ensure_future(_make(disk))
        stack.push_async_callback(_leave, made)
        yield Begun(memory, carrier, made)


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
