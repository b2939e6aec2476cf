"""Disk files: an empty ext4 file system, and qcow2 overlays on it and on each other."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Literal, NamedTuple

from vmm.errors import VmmError
from vmm.jail import backing_files, tool_jail
from vmm.private import UMASK, private
from vmm.process import run
from vmm.tools import Tools

QCOW2_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQI")  # magic, version, where the name of the backing file is, how long it is
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
