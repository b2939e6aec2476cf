"""What the header of a qcow2 file says of the files that it needs (docs/interop/qcow2.txt of QEMU)."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from vmm.errors import VmmError

QCOW2_MAGIC = b"QFI\xfb"
HEADER = struct.Struct(">4sIQI")  # magic, version, where the name of the backing file is, how long it is
LENGTH = 104  # of a header of version 3, without extensions
LONGEST_NAME = 1023
BACKING_FORMAT = 0xE2792ACA  # the type of a header extension
_FEATURE_NAMES = 0x6803F857
_EXTENSIONS = frozenset({BACKING_FORMAT, _FEATURE_NAMES})  # all that QEMU writes into a disk of ours
_EXTERNAL_DATA = 1 << 2  # an incompatible feature: the bytes are in yet another file
_READ = 65536  # bytes; what a disk of ours says of itself is in its first cluster


class Backing(NamedTuple):
    """What a qcow2 says of the file below it: its name as written, its format ("" where that is not said).

    `elsewhere`: the disk keeps its own bytes in yet another file, and `more`: its header has a further extension. No
    disk of ours has either.
    """

    name: str
    format: str
    elsewhere: bool = False
    more: bool = False


def read_backing(path: Path) -> Backing | None:
    """The backing file that the header of the qcow2 `path` names; None where there is none.

    Reads at most 64 KiB. Raises VmmError for what is no qcow2 or can be read in two ways, and OSError.
    """
    with path.open("rb") as file:
        head = file.read(_READ)
    try:
        magic, version, where, length = HEADER.unpack_from(head)
        if magic != QCOW2_MAGIC or version not in (2, 3):
            raise VmmError(f"{path} is no qcow2 disk")
        features, at = 0, 72
        if version == 3:
            features, at = struct.unpack_from(">Q", head, 72)[0], struct.unpack_from(">I", head, 100)[0]
        elsewhere = bool(features & _EXTERNAL_DATA)
        if not where:
            return Backing("", "", elsewhere) if elsewhere else None
        if length > LONGEST_NAME or where + length > len(head):
            raise VmmError(f"{path} has a backing file without a name")
        found = _extensions(path, head[:where], at)
        form = found.get(BACKING_FORMAT, b"").decode("ascii", "replace")
        return Backing(os.fsdecode(head[where : where + length]), form, elsewhere, not found.keys() <= _EXTENSIONS)
    except struct.error as error:
        raise VmmError(f"{path} is no whole qcow2 disk") from error


def _extensions(path: Path, head: bytes, at: int) -> dict[int, bytes]:
    """By their types. QEMU takes the last one of a type, and others may take the first: there is only one of each."""
    found: dict[int, bytes] = {}
    while at < len(head):
        kind, length = struct.unpack_from(">II", head, at)
        if kind == 0:
            break
        if kind in found or length > len(head) - at - 8:
            raise VmmError(f"{path} has a header that can be read in two ways")
        found[kind] = head[at + 8 : at + 8 + length]
        at += 8 + (length + 7) // 8 * 8
    return found
