"""Disk files: an empty ext4 file system, and qcow2 overlays on it and on each other."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Literal

from vmm.errors import VmmError
from vmm.jail import backing_files, tool_jail
from vmm.memory import copy_extents
from vmm.private import UMASK, private
from vmm.process import run
from vmm.qcow2 import BACKING_FORMAT, HEADER, LENGTH, LONGEST_NAME, QCOW2_MAGIC
from vmm.tools import Tools

_CLUSTER = 65536
_REFCOUNT_ORDER = 4  # 16 bits each


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


def write_overlay(
    path: Path, backing: Path, backing_format: Literal["raw", "qcow2"], *, relative: bool = False
) -> None:
    """The same as `make_overlay`, without starting a program for it, which takes a tenth of a second of each `up`.

    Four clusters (docs/interop/qcow2.txt of QEMU): the header with the backing file's name, a table of one block of
    reference counts, that block, and the first-level table, all of which is empty. Raises OSError and VmmError.
    """
    size = backing.stat().st_size if backing_format == "raw" else _size_of(backing)
    tables = -(-size // (_CLUSTER * _CLUSTER // 8))  # each second-level table is a cluster of eight-byte entries
    clusters = 3 + -(-tables * 8 // _CLUSTER)
    base = os.path.relpath(backing, path.parent) if relative else backing.resolve()
    name, kind = os.fsencode(base), backing_format.encode()
    if len(name) > LONGEST_NAME or clusters > _CLUSTER // 2:
        raise VmmError(f"{backing} cannot be the base of a disk: its path or its size is too large")
    extension = struct.pack(">II", BACKING_FORMAT, len(kind)) + kind.ljust(8, b"\0") + bytes(8)
    where = LENGTH + len(extension)
    header = HEADER.pack(QCOW2_MAGIC, 3, where, len(name))
    header += struct.pack(">IQIIQQIIQ", _CLUSTER.bit_length() - 1, size, 0, tables, 3 * _CLUSTER, _CLUSTER, 1, 0, 0)
    header += struct.pack(">QQQII", 0, 0, 0, _REFCOUNT_ORDER, LENGTH)
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
        head = file.read(HEADER.size + 12)
    if len(head) < HEADER.size + 12 or head[:4] != QCOW2_MAGIC:
        raise VmmError(f"{path} is no qcow2 disk")
    return int(struct.unpack_from(">Q", head, HEADER.size + 4)[0])


def copy_disk(path: Path, target: Path) -> None:
    """Copy a disk that does not change; where the file system can, both share their blocks. Raises OSError."""
    with path.open("rb") as source, open(target, "xb", opener=private) as file:
        copy_extents(source.fileno(), file.fileno(), os.fstat(source.fileno()).st_size)
