"""A second life of a running machine: what is its memory, its disk and the state of its devices at one moment.

The machine stands still for that moment and runs on. Its disk up to then is what the second life begins with: from then
on the machine writes into a new one above it, and nobody changes the old one any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from vmm.apart import beside_devices, check_room, configure
from vmm.machine import Machine
from vmm.private_memory import Changed, PrivateMemory
from vmm.snapshot import Shape, Snapshot, write_description

LAYERS_MOST = 32  # disks below a machine's disk: each one makes reading slower, and QEMU's jail counts up to 64


@dataclass(frozen=True)
class Forked:
    """What was saved, how long the machine stood still for it, in seconds, and whether its programs did before that."""

    snapshot: Snapshot
    stood_still_s: float
    all_stood_still: bool


async def fork(
    machine: Machine,
    template: int | None,
    shape: Shape,
    directory: Path,
    overlay: Path,
    on_disk: Callable[[], object],
    *,
    needed: int = 0,
    still: AbstractAsyncContextManager[bool] | None = None,
) -> Forked:
    """Save the running `machine` into `directory`, but for its disk, and let it run on.

    Its memory is private to QEMU: `template` is the descriptor of the file that it has mapped, None for memory without
    a file. `overlay` is a new disk above the one that it has, and it writes into that from then on; `on_disk` is called
    when it does, while the machine stands still: its disk up to then is what belongs to the rest, and the caller copies
    it (`needed` bytes). The machine is saved within the block `still`, which counts as standing still and says whether
    the guest's programs do; without it they do not. Whatever fails, and a cancellation, lets the machine run on, but
    where it is not certain that it writes into the disk that its sandbox has: then it is ended. Nothing is waited for
    to reach the disk of this host. Raises VmmError, OSError.
    """
    kind = await machine.type()
    memory = await asyncio.to_thread(PrivateMemory.of, machine.pid, await machine.memory_address(), shape.memory)
    snapshot = Snapshot(directory, shape, tuple(machine.plugged))
    check_room(memory, template, directory, needed)
    # What the machine has not changed cannot change meanwhile: it is copied while the machine runs.
    await asyncio.to_thread(memory.prepare, template, snapshot.ram)
    began = time.monotonic()
    async with still or nullcontext(False) as all_stood_still:
        # QEMU finishes what it was told, whoever still waits for that: only then it can be told to go on.
        saving = asyncio.create_task(_save(machine, memory, snapshot, overlay, on_disk))
        try:
            changed = await asyncio.shield(saving)
        except asyncio.CancelledError:
            await asyncio.wait({saving})
            raise
    seconds = time.monotonic() - began
    await asyncio.to_thread(changed.write, snapshot.ram)
    configure(snapshot.state, kind)
    write_description(snapshot)
    return Forked(snapshot, seconds, all_stood_still)


async def _save(
    machine: Machine, memory: PrivateMemory, snapshot: Snapshot, overlay: Path, on_disk: Callable[[], object]
) -> Changed:
    try:
        await machine.stand_still()
        await machine.change_disk(overlay)
        try:
            on_disk()
        except OSError as error:
            # What it writes from now on is not where its disk is looked for.
            machine.fail(f"its new disk could not be put in its place: {error.strerror or error}")
            await machine.wait()
            raise
        # Not to the disk: the kernel lets those wait who write more than it can take.
        return await beside_devices(machine, snapshot.state, memory.read_changed)
    finally:
        await machine.run()
