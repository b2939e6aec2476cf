"""A machine that is put aside: its memory and the state of its devices in a directory, beside the disk that it keeps.

It goes on once, from this very state and this very disk, and the files are of no use after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable
from pathlib import Path

from vmm import apart
from vmm.errors import VmmError
from vmm.machine import Machine
from vmm.memory import write_memory
from vmm.private_memory import PrivateMemory
from vmm.snapshot import Shape, Snapshot, write_description

ROOM = 64 << 20  # bytes that are to stay free: the state of the devices, and whoever else writes there


async def suspend(
    machine: Machine,
    memory: int | None,
    template: int | None,
    shape: Shape,
    directory: Path,
    commit: Callable[[], object],
) -> None:
    """Write the running `machine` into `directory`, where it stands still after that, and call `commit`.

    `memory` is the descriptor of its memory, None where that is private to QEMU; `template` is then that of the file
    that QEMU has mapped, if it has one. Private memory becomes a file, too, where this host lets us read it; else QEMU
    writes it into the state of its devices, which takes several times as long. Whatever fails before `commit` has
    returned, and a cancellation, lets the machine run on; after that it must not. All files are on the disk when
    `commit` is called. Raises VmmError, OSError.
    """
    private = await _readable(machine, shape) if memory is None else None
    if private is not None:
        await asyncio.to_thread(apart.check_room, private, template, directory, 0)
    else:
        check_room(memory, shape.memory, directory)
    snapshot = Snapshot(directory, shape, tuple(machine.plugged))
    # QEMU finishes what it was told, whoever still waits for that: only then it can be told to go on.
    if private is not None:
        saving = asyncio.create_task(_save_apart(machine, private, template, snapshot))
    else:
        saving = asyncio.create_task(_save(machine, memory, snapshot))
    try:
        await asyncio.shield(saving)
        commit()
    except BaseException:
        await asyncio.wait({saving})
        if not saving.cancelled():
            saving.exception()  # whoever cancelled us does not wait for it, and the loop would complain
        await asyncio.shield(machine.run())
        raise


async def _readable(machine: Machine, shape: Shape) -> PrivateMemory | None:
    """The machine's private memory, if it and the state of its devices can be had without QEMU's migration."""
    network = machine.spec.network
    if network is not None and network.stream is None:
        return None  # the user network has to be taken out of what is saved, which only `Machine.save` does
    with contextlib.suppress(VmmError):
        return await asyncio.to_thread(PrivateMemory.of, machine.pid, await machine.memory_address(), shape.memory)
    return None


async def _save(machine: Machine, memory: int | None, snapshot: Snapshot) -> None:
    await machine.stand_still()
    if memory is not None:
        # The thread outlives a cancelled task, and the number of a closed descriptor may be another file's.
        await asyncio.to_thread(_write, os.dup(memory), snapshot.shape.memory, snapshot.ram)
    await machine.save(snapshot.state)
    await asyncio.to_thread(_finish, snapshot)


async def _save_apart(machine: Machine, memory: PrivateMemory, template: int | None, snapshot: Snapshot) -> None:
    kind = await machine.type()
    # What the machine has not changed cannot change meanwhile: it is copied while the machine runs.
    await asyncio.to_thread(memory.prepare, template, snapshot.ram)
    await machine.stand_still()
    # It stands still for good: there is no hurry for which it should be in this host's memory twice.
    await apart.beside_devices(machine, snapshot.state, functools.partial(memory.write_changed, snapshot.ram))
    apart.configure(snapshot.state, kind)
    await asyncio.to_thread(_sync, snapshot.ram)
    await asyncio.to_thread(_finish, snapshot)


def _finish(snapshot: Snapshot) -> None:
    write_description(snapshot, sync=True)
    _sync(snapshot.state)


def check_room(memory: int | None, size: int, directory: Path) -> None:
    """Raises VmmError where the disk has no room for the memory behind the descriptor, or for all `size` bytes of one
    that nobody can look at."""
    needed = (size if memory is None else os.fstat(memory).st_blocks * 512) + ROOM
    seen = os.statvfs(directory)
    if (free := seen.f_bavail * seen.f_frsize) < needed:
        raise VmmError(
            f"the machine's memory needs up to {needed >> 20} MB on the disk, and {free >> 20} MB are free",
            hint=f"make room where {directory.parent} is",
        )


def _write(memory: int, size: int, target: Path) -> None:
    try:
        write_memory(memory, size, target)
    finally:
        os.close(memory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
