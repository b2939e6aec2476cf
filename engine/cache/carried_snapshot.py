"""Whether a snapshot that came from elsewhere refers to nothing but what came with it: its disk, and its drives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.cache.bundle import CarriedEntry, Maker, refused
from vmm.errors import VmmError
from vmm.qcow2 import QCOW2_MAGIC, read_backing
from vmm.snapshot import FORMAT, load_snapshot
from vmm.spec import SPARE_PORTS

LONGEST_META = 1 << 16  # bytes
LONGEST_SERIAL = 20
DISKS = {"disk": ("disk.raw", "raw")}  # of each kind the disk that others lie upon, and its format
SNAPSHOT_DISK = ("disk.qcow2", "qcow2")
LAYER = ("agent-layer", "layer.erofs")


def check_snapshot(entry: CarriedEntry, directory: Path, maker: Maker, parents: Mapping[str, CarriedEntry]) -> None:
    """Check the files of a snapshot in `directory`, which is as deep in the cache as it will be.

    `parents` are the entries of its bundle that it is built upon, by name. Raises EngineError.
    """
    _check_disk(entry, directory, parents)
    _check_meta(entry, directory, maker, parents)


def check_empty_disk(entry: CarriedEntry, directory: Path) -> None:
    """Check that the disk that others lie upon lies upon nothing. Raises EngineError."""
    with (directory / DISKS["disk"][0]).open("rb") as file:
        if file.read(len(QCOW2_MAGIC)) == QCOW2_MAGIC:  # whoever takes it for one would read a file of this host
            raise refused(f"the disk of {entry.name} is none that was made empty")


def _check_disk(entry: CarriedEntry, directory: Path, parents: Mapping[str, CarriedEntry]) -> None:
    try:
        backing = read_backing(directory / "disk.qcow2")
    except (VmmError, OSError) as error:
        raise refused(f"the disk of {entry.name} is none") from error
    if backing is None or backing.elsewhere or backing.more or (backing.name, backing.format) not in _disks(parents):
        raise refused(f"the disk of {entry.name} lies upon something else than what it was built upon")


def _disks(parents: Mapping[str, CarriedEntry]) -> set[tuple[str, str]]:
    """Exactly as we write them: relative names, which can be read in one way only."""
    found = set()
    for name, parent in parents.items():
        file, form = DISKS.get(parent.kind, SNAPSHOT_DISK)
        if file in {one.name for one in parent.files}:
            found.add((f"../../{name}/{file}", form))
    return found


def _check_meta(entry: CarriedEntry, directory: Path, maker: Maker, parents: Mapping[str, CarriedEntry]) -> None:
    path = directory / "meta.json"
    try:
        if path.stat().st_size > LONGEST_META:
            raise ValueError("it is too long")
        meta = json.loads(path.read_bytes())
        if set(meta) != {"format", "shape", "drives"} or meta["format"] != FORMAT:
            raise ValueError("it has other keys than ours")
        _check_drives(entry, meta["drives"], parents)
        shape = load_snapshot(directory).shape
        sizes = [shape.cpus, shape.memory, shape.spare_ports]
        if not all(type(size) is int and size > 0 for size in sizes) or shape.spare_ports != SPARE_PORTS:
            raise ValueError("its machine has no such size")
    except (ValueError, TypeError, KeyError, RecursionError, VmmError, OSError) as error:
        raise refused(f"what is said of the machine of {entry.name} cannot be read ({error})") from error
    if (shape.accelerator, shape.qemu) != (maker.accelerator, maker.toolchain):
        raise refused(f"the machine of {entry.name} is of another QEMU than the bundle says")
    if (directory / "ram").stat().st_size != shape.memory:
        raise refused(f"the memory of {entry.name} is not as long as its machine's")


def _check_drives(entry: CarriedEntry, drives: Any, parents: Mapping[str, CarriedEntry]) -> None:
    allowed = {f"../../{name}/{LAYER[1]}" for name, parent in parents.items() if parent.kind == LAYER[0]}
    for drive in drives:
        if set(drive) != {"file", "serial", "slot"}:
            raise ValueError("a drive has other keys than ours")
        if drive["file"] not in allowed:
            raise refused(f"a drive of {entry.name} is no layer that it was built with")
        serial, slot = drive["serial"], drive["slot"]
        if not isinstance(serial, str) or not serial.isalnum() or len(serial) > LONGEST_SERIAL:
            raise ValueError("a drive has no such serial number")
        if type(slot) is not int or not 0 <= slot < SPARE_PORTS:
            raise ValueError("a drive is in no slot")
