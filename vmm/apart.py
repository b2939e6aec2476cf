"""The memory and the devices of a machine, each read by itself, without QEMU's migration.

That is many times faster for memory that is private to QEMU, and the machine may run on afterwards.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vmm.errors import VmmError
from vmm.machine import MEMORY_APART, Machine
from vmm.private import private
from vmm.private_memory import PrivateMemory

T = TypeVar("T")
ROOM = 64 << 20  # bytes that are to stay free: the state of the devices, and whoever else writes there
_HEAD = b"QEVM" + struct.pack(">I", 3)
_CONFIGURATION, _SUBSECTION = 7, 5


async def beside_devices(machine: Machine, state: Path, work: Callable[[], T]) -> T:
    """Of a machine that stands still, write the state of its devices into `state`, and do `work`, in a thread; both at
    once. Neither goes on when this returns or raises: VmmError, OSError, or what `work` raises."""
    saved = asyncio.ensure_future(machine.save_devices(state))
    try:
        result = await asyncio.to_thread(work)
    finally:
        await asyncio.wait({saved})
    await saved
    return result


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


def configure(state: Path, kind: str) -> None:
    """Make what `Machine.save_devices` has written a state that can be loaded. Raises VmmError, OSError."""
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
