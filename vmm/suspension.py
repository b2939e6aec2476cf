"""A machine that is put aside: its memory and the state of its devices in a directory, beside the disk that it keeps.

It goes on once, from this very state and this very disk, and the files are of no use after that.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from vmm.errors import VmmError
from vmm.machine import Machine
from vmm.memory import write_memory
from vmm.private import private
from vmm.snapshot import FORMAT, Shape, Snapshot, describe_drives

ROOM = 64 << 20  # bytes that are to stay free: the state of the devices, and whoever else writes there


async def suspend(
    machine: Machine, memory: int | None, shape: Shape, directory: Path, commit: Callable[[], object]
) -> None:
    """Write the running `machine` into `directory`, where it stands still after that, and call `commit`.

    `memory` is the descriptor of its memory, None where that is private to QEMU, which writes it itself then. Whatever
    fails before `commit` has returned, and a cancellation, lets the machine run on; after that it must not. All files
    are on the disk when `commit` is called. Raises VmmError, OSError.
    """
    check_room(memory, shape.memory, directory)
    # QEMU finishes what it was told, whoever still waits for that: only then it can be told to go on.
    saving = asyncio.create_task(_save(machine, memory, shape, directory))
    try:
        await asyncio.shield(saving)
        commit()
    except BaseException:
        await asyncio.wait({saving})
        if not saving.cancelled():
            saving.exception()  # whoever cancelled us does not wait for it, and the loop would complain
        await asyncio.shield(machine.run())
        raise


async def _save(machine: Machine, memory: int | None, shape: Shape, directory: Path) -> None:
    await machine.stand_still()
    snapshot = Snapshot(directory, shape, tuple(machine.plugged))
    if memory is not None:
        # The thread outlives a cancelled task, and the number of a closed descriptor may be another file's.
        await asyncio.to_thread(_write, os.dup(memory), shape.memory, snapshot.ram)
    await machine.save(snapshot.state)
    await asyncio.to_thread(_describe, snapshot)
    await asyncio.to_thread(_sync, snapshot.state)


def _describe(snapshot: Snapshot) -> None:
    directory = snapshot.directory
    drives = describe_drives(snapshot.drives, directory)
    meta = {"format": FORMAT, "shape": asdict(snapshot.shape), "drives": drives}
    with open(directory / "meta.json", "w", opener=private) as file:
        file.write(json.dumps(meta, indent=1, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


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
