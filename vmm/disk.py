"""Disk files: an empty ext4 file system, and qcow2 overlays on it and on each other."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Literal, NamedTuple

from vmm.errors import VmmError
from vmm.jail import backing_files, tool_jail
from vmm.memory import copy_extents
from vmm.private import UMASK, private
from vmm.process import run
from vmm.tools import Tools

QCOW2_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQI")  # magic, version, where the name of the backing file is, how long it is
_LENGTH = 104  # of a header of version 3, without extensions
_LONGEST_NAME = 1023
_CLUSTER = 65536
_REFCOUNT_ORDER = 4  # 16 bits each
_EXTERNAL_DATA = 1 << 2  # an incompatible feature: the bytes are in yet another file
_BACKING_FORMAT = 0xE2792ACA  # the type of a header extension


async def make_disk(tools: Tools, path: Path, size: int) -> None:
    """Make `path` a sparse raw disk of `size` bytes with an empty ext4. Raises ProcessError (disk full)."""
    with open(path, "wb", opener=private) as file:
        file.truncate(size)
    # Inode tables are written when first used: a 20 GiB file system costs a few MiB here. No blocks kept for root.
    features = ["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-m", "0", "-L", "sandbox"]
    command = tools.mkfs_ext4.command("-q", "-F", *features, str(path))
    jail = tool_jail(tools.mkfs_ext4, write=(path,))
    await run(command, env=tools.mkfs_ext4.env, timeout_s=120, umask=UMASK, jail=jail)


async def make_overlay(
    tools: Tools, path: Path, backing: Path, backing_format: Literal["raw", "qcow2"], *, relative: bool = False
) -> None:
    """Make `path` a qcow2 that holds only what differs from `backing`, which must not change any more.

    `relative` writes the backing file's path relative to the overlay's directory, so that both can move together.
    """
    base = os.path.relpath(backing, path.parent) if relative else str(backing.resolve())
    options = ["create", "-q", "-f", "qcow2", "-F", backing_format, "-b", base, str(path)]
    # It looks at the backing file, and at those behind it.
    jail = tool_jail(tools.qemu_img, read=(backing, *backing_files(backing)), fill=(path.parent,))
    await run(tools.qemu_img.command(*options), env=tools.qemu_img.env, timeout_s=60, umask=UMASK, jail=jail)


def write_overlay(path: Path, backing: Path, backing_format: Literal["raw", "qcow2"]) -> None:
    """The same as `make_overlay`, without starting a program for it, which takes a tenth of a second of each `up`.

    Four clusters (docs/interop/qcow2.txt of QEMU): the header with the backing file's name, a table of one block of
    reference counts, that block, and the first-level table, all of which is empty. Raises OSError and VmmError.
    """
    size = backing.stat().st_size if backing_format == "raw" else _size_of(backing)
    tables = -(-size // (_CLUSTER * _CLUSTER // 8))  # each second-level table is a cluster of eight-byte entries
    clusters = 3 + -(-tables * 8 // _CLUSTER)
    name, kind = os.fsencode(backing.resolve()), backing_format.encode()
    if len(name) > _LONGEST_NAME or clusters > _CLUSTER // 2:
        raise VmmError(f"{backing} cannot be the base of a disk: its path or its size is too large")
    extension = struct.pack(">II", _BACKING_FORMAT, len(kind)) + kind.ljust(8, b"\0") + bytes(8)
    where = _LENGTH + len(extension)
    header = _HEADER.pack(QCOW2_MAGIC, 3, where, len(name))
    header += struct.pack(">IQIIQQIIQ", _CLUSTER.bit_length() - 1, size, 0, tables, 3 * _CLUSTER, _CLUSTER, 1, 0, 0)
    header += struct.pack(">QQQII", 0, 0, 0, _REFCOUNT_ORDER, _LENGTH)
    with open(path, "wb", opener=private) as file:
        file.write(header + extension + name)
        file.seek(_CLUSTER)
        file.write(struct.pack(">Q", 2 * _CLUSTER))
        file.seek(2 * _CLUSTER)
        file.write(struct.pack(">H", 1) * clusters)
        file.truncate(clusters * _CLUSTER)


def _size_of(path: Path) -> int:
    """The size of the disk that a qcow2 holds, in bytes."""
    with path.open("rb") as file:
        head = file.read(_HEADER.size + 12)
    if len(head) < _HEADER.size + 12 or head[:4] != QCOW2_MAGIC:
        raise VmmError(f"{path} is no qcow2 disk")
    return int(struct.unpack_from(">Q", head, _HEADER.size + 4)[0])


def copy_disk(path: Path, target: Path) -> None:
    """Copy a disk that does not change; where the file system can, both share their blocks. Raises OSError."""
    with path.open("rb") as source, open(target, "xb", opener=private) as file:
        copy_extents(source.fileno(), file.fileno(), os.fstat(source.fileno()).st_size)


class Backing(NamedTuple):
    """What a qcow2 says of the file below it: its name as written, its format ("" where that is not said).

    `elsewhere`: the disk keeps its own bytes in yet another file, which no disk of ours does.
    """

    name: str
    format: str
    elsewhere: bool = False


def read_backing(path: Path) -> Backing | None:
    """The backing file that the header of the qcow2 `path` names; None where there is none.

    Reads at most a few KiB. Raises VmmError for what is no qcow2, and OSError.
    """
    with path.open("rb") as file:
        head = file.read(65536)
    try:
        magic, version, where, length = _HEADER.unpack_from(head)
        if magic != QCOW2_MAGIC or version not in (2, 3):
            raise VmmError(f"{path} is no qcow2 disk")
        features, at = 0, 72
        if version == 3:
            features, at = struct.unpack_from(">Q", head, 72)[0], struct.unpack_from(">I", head, 100)[0]
        elsewhere = bool(features & _EXTERNAL_DATA)
        if not where:
            return Backing("", "", elsewhere) if elsewhere else None
        if length > 1023 or where + length > len(head):
            raise VmmError(f"{path} has a backing file without a name")
        return Backing(os.fsdecode(head[where : where + length]), _backing_format(head, at), elsewhere)
    except struct.error as error:
        raise VmmError(f"{path} is no whole qcow2 disk") from error


def _backing_format(head: bytes, at: int) -> str:
    while True:
        kind, length = struct.unpack_from(">II", head, at)
        if kind == 0:
            return ""
        if kind == _BACKING_FORMAT:
            return head[at + 8 : at + 8 + length].decode("ascii", "replace")
        at += 8 + (length + 7) // 8 * 8
