"""A second life of a running machine: what is its memory, its disk and the state of its devices at one moment.

The machine stands still for that moment and runs on. Its disk up to then is what the second life begins with: from then
on the machine writes into a new one above it, and nobody changes the old one any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from vmm.errors import VmmError
from vmm.machine import MEMORY_APART, Machine
from vmm.private import private
from vmm.private_memory import Changed, PrivateMemory
from vmm.snapshot import FORMAT, Shape, Snapshot, describe_drives

ROOM = 64 << 20  # bytes that are to stay free: the state of the devices, and whoever else writes there
LAYERS_MOST = 32  # disks below a machine's disk: each one makes reading slower, and QEMU's jail counts up to 64
_HEAD = b"QEVM" + struct.pack(">I", 3)
_CONFIGURATION, _SUBSECTION = 7, 5


@dataclass(frozen=True)
class Forked:
    """What was saved, and how long the machine stood still for it, in seconds."""

    snapshot: Snapshot
    stood_still_s: float


async def fork(
    machine: Machine,
    template: int | None,
    shape: Shape,
    directory: Path,
    overlay: Path,
    on_disk: Callable[[], object],
    *,
    needed: int = 0,
) -> Forked:
    """Save the running `machine` into `directory`, but for its disk, and let it run on.

    Its memory is private to QEMU: `template` is the descriptor of the file that it has mapped, None for memory without
    a file. `overlay` is a new disk above the one that it has, and it writes into that from then on; `on_disk` is called
    when it does, while the machine stands still: its disk up to then is what belongs to the rest, and the caller copies
    it (`needed` bytes). Whatever fails, and a cancellation, lets the machine run on, but where it is not certain that
    it writes into the disk that its sandbox has: then it is ended. Nothing is waited for to reach the disk of this
    host. Raises VmmError, OSError.
    """
    kind = await machine.type()
    memory = await asyncio.to_thread(PrivateMemory.of, machine.pid, await machine.memory_address(), shape.memory)
    snapshot = Snapshot(directory, shape, tuple(machine.plugged))
    check_room(memory, template, directory, needed)
    # What the machine has not changed cannot change meanwhile: it is copied while the machine runs.
    await asyncio.to_thread(memory.prepare, template, snapshot.ram)
    # QEMU finishes what it was told, whoever still waits for that: only then it can be told to go on.
    saving = asyncio.create_task(_save(machine, memory, snapshot, overlay, on_disk))
    try:
        seconds, changed = await asyncio.shield(saving)
    except asyncio.CancelledError:
        await asyncio.wait({saving})
        raise
    await asyncio.to_thread(changed.write, snapshot.ram)
    _configure(snapshot.state, kind)
    _describe(snapshot)
    return Forked(snapshot, seconds)


async def _save(
    machine: Machine, memory: PrivateMemory, snapshot: Snapshot, overlay: Path, on_disk: Callable[[], object]
) -> tuple[float, Changed]:
    began = time.monotonic()
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
        saved = asyncio.ensure_future(machine.save_devices(snapshot.state))
        try:
            # Not to the disk: the kernel lets those wait who write more than it can take.
            changed = await asyncio.to_thread(memory.read_changed)
        finally:
            await asyncio.wait({saved})
        await saved
    finally:
        await machine.run()
    return time.monotonic() - began, changed


def check_room(memory: PrivateMemory, template: int | None, directory: Path, more: int) -> None:
    """Raises VmmError where the disk has no room for the memory, and for `more` bytes."""
    of_template = os.fstat(template).st_blocks * 512 if template is not None else 0
    needed = of_template + memory.changed_bytes() + more + ROOM
    seen = os.statvfs(directory)
    if (free := seen.f_bavail * seen.f_frsize) < needed:
        raise VmmError(
            f"the machine's memory and disk need up to {needed >> 20} MB on the disk, and {free >> 20} MB are free",
            hint=f"make room where {directory.parent} is",
        )


def _configure(state: Path, kind: str) -> None:
    with_configuration = configured(state.read_bytes(), kind)
    with open(state, "wb", opener=private) as file:
        file.write(with_configuration)


def configured(state: bytes, kind: str) -> bytes:
    """What `Machine.save_devices` has written, with the part that `migrate` writes first: which kind of machine it is,
    and that the memory is elsewhere (migration/savevm.c of QEMU). Raises VmmError for what is no such state."""
    if state[: len(_HEAD)] != _HEAD:
        raise VmmError("QEMU wrote a state of a form that is not known")
    name, apart = kind.encode(), MEMORY_APART.encode()
    capabilities = struct.pack(">II", 1, 1) + bytes([len(apart)]) + apart
    part = b"configuration/capabilities"
    configuration = struct.pack(">I", len(name)) + name + bytes([_SUBSECTION, len(part)]) + part + capabilities
    return _HEAD + bytes([_CONFIGURATION]) + configuration + state[len(_HEAD) :]


def _describe(snapshot: Snapshot) -> None:
    directory = snapshot.directory
    drives = describe_drives(snapshot.drives, directory)
    meta = {"format": FORMAT, "shape": asdict(snapshot.shape), "drives": drives}
    with open(directory / "meta.json", "w", opener=private) as file:
        file.write(json.dumps(meta, indent=1, sort_keys=True) + "\n")
