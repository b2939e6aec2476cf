"""A snapshot: four immutable files that are a machine in the middle of its life.

`disk.qcow2` (backed by its parent's), `ram` (sparse, one byte of file per byte of guest memory), `state` (QEMU's
migration stream of the devices) and `meta.json` (the shape that a machine must have to be restored from it, and the
disks that were plugged into it, which are files of other entries that do not change).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vmm.errors import VmmError
from vmm.machine import Machine
from vmm.memory import write_memory
from vmm.private import private
from vmm.snapshot_files import disk_in, ram_in
from vmm.spec import SPARE_PORTS, Accelerator, Drive

FORMAT = 1


@dataclass(frozen=True)
class Shape:
    """What must be the same when a machine is restored as when it was saved. `memory` in bytes."""

    accelerator: Accelerator
    cpus: int
    memory: int
    qemu: str
    spare_ports: int = SPARE_PORTS


@dataclass(frozen=True)
class Snapshot:
    """The files of one snapshot in `directory`, and the read-only disks that its machine was given while it ran."""

    directory: Path
    shape: Shape
    drives: tuple[Drive, ...] = ()

    @property
    def disk(self) -> Path:
        return disk_in(self.directory)

    @property
    def ram(self) -> Path:
        return ram_in(self.directory)

    @property
    def state(self) -> Path:
        return self.directory / "state"


def load_snapshot(directory: Path) -> Snapshot:
    """Raises VmmError when the files are not a snapshot that this version can read."""
    try:
        meta = json.loads((directory / "meta.json").read_text())
        if meta["format"] != FORMAT:
            raise VmmError(f"the snapshot in {directory} has format {meta['format']}, this version reads {FORMAT}")
        return Snapshot(directory, Shape(**meta["shape"]), tuple(_drives(directory, meta.get("drives", []))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VmmError(f"no readable snapshot in {directory}", details=str(error)) from error


async def save_snapshot(machine: Machine, memory: int, shape: Shape, directory: Path) -> Snapshot:
    """Save the running `machine` into `directory`, where its disk.qcow2 already is, and end it.

    `memory` is the descriptor of its (shared) memory. Raises VmmError, OSError (disk full).
    """
    snapshot = Snapshot(directory, shape, tuple(machine.plugged))
    await machine.save(snapshot.state)
    await machine.quit()
    if machine.process.returncode != 0:
        raise VmmError("QEMU did not end properly after saving: its disk may not be complete")
    # The thread outlives a cancelled task, and the number of a closed descriptor may be another file's.
    await asyncio.to_thread(_write, os.dup(memory), shape.memory, snapshot.ram)
    write_description(snapshot)
    return snapshot


def write_description(snapshot: Snapshot, *, sync: bool = False) -> None:
    """Write the file that `load_snapshot` reads; with `sync` it is on the disk afterwards. Raises OSError."""
    drives = describe_drives(snapshot.drives, snapshot.directory)
    meta = {"format": FORMAT, "shape": asdict(snapshot.shape), "drives": drives}
    with open(snapshot.directory / "meta.json", "w", opener=private) as file:
        file.write(json.dumps(meta, indent=1, sort_keys=True) + "\n")
        if sync:
            file.flush()
            os.fsync(file.fileno())


def describe_drives(drives: Iterable[Drive], directory: Path) -> list[dict[str, Any]]:
    """Plugged disks as plain data. Their paths are relative, so that snapshots can move together."""
    return [
        {"file": os.path.relpath(drive.path, directory), "serial": drive.serial, "slot": drive.slot} for drive in drives
    ]


def _drives(directory: Path, described: list[dict[str, Any]]) -> Iterator[Drive]:
    for drive in described:
        path = Path(os.path.normpath(directory / drive["file"]))
        yield Drive(path, drive["serial"], "raw", read_only=True, slot=drive["slot"])


def _write(memory: int, size: int, target: Path) -> None:
    try:
        write_memory(memory, size, target)
    finally:
        os.close(memory)
