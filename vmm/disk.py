"""Disk files: an empty ext4 file system, and qcow2 overlays on it and on each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from vmm.jail import backing_files, tool_jail
from vmm.private import UMASK, private
from vmm.process import run
from vmm.tools import Tools


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
