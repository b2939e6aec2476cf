"""An npm package on its way into a guest: decompressed here, since an emulated CPU is slow, and unpacked there.

Only files, directories and links within the package go on, all of them root's. The package's digest was checked, and
yet nothing in it is trusted.
"""

from __future__ import annotations

import asyncio
import posixpath
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from engine.errors import EngineError
from vmm.channel.copy import send_archive
from vmm.channel.guest import GuestChannel

BLOCK = 1 << 18
UNPACK_S = 1800.0
_MOST_BYTES = 8 << 30  # unpacked
_MOST_FILES = 500_000


async def put_package(channel: GuestChannel, package: Path, directory: str) -> None:
    """Unpack the tarball `package` into the guest's `directory`, which must exist, within UNPACK_S seconds.

    Raises EngineError for what cannot be unpacked, and GuestError.
    """
    try:
        async with asyncio.timeout(UNPACK_S):
            await send_archive(channel, lambda send: repack(package, send), directory, f"the package in {directory}")
    except TimeoutError:
        raise EngineError(f"the package was not unpacked within {UNPACK_S:g} s") from None


def repack(package: Path, send: Callable[[bytes], None]) -> None:
    """Send what is in a gzipped tarball as a plain one. Raises EngineError for a package that has no place here."""
    files = size = 0
    sender = cast("IO[bytes]", _Sender(send))
    try:
        with (
            tarfile.open(package, "r|gz", bufsize=BLOCK) as source,
            tarfile.open(fileobj=sender, mode="w|", bufsize=BLOCK, format=tarfile.PAX_FORMAT) as target,
        ):
            for member in source:
                files, size = files + 1, size + member.size
                if files > _MOST_FILES or size > _MOST_BYTES:
                    raise EngineError(f"{package.name} holds more than an agent can need")
                target.addfile(_cleaned(member), source.extractfile(member) if member.isreg() else None)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise EngineError(f"{package.name} is no readable package: {error}") from error


def _cleaned(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The entry as root's, and with no more than it needs."""
    clean = tarfile.TarInfo(_within(member.name))
    clean.size = member.size if member.isreg() else 0
    clean.mtime = max(0, int(member.mtime))
    clean.mode = 0o755 if member.isdir() or member.mode & 0o111 else 0o644
    if member.isdir():
        clean.type = tarfile.DIRTYPE
    elif member.issym():
        clean.type, clean.linkname, clean.mode = tarfile.SYMTYPE, member.linkname, 0o777
        if member.linkname.startswith("/"):
            raise EngineError(f"the package has a link that leads out of it: {member.name[:200]}")
        _within(posixpath.join(posixpath.dirname(member.name), member.linkname))
    elif not member.isreg():
        raise EngineError(f"the package has something in it that is no file: {member.name[:200]}")
    return clean


def _within(name: str) -> str:
    clean = posixpath.normpath(name)
    if name.startswith("/") or clean.split("/")[0] == "..":
        raise EngineError(f"the package has a name that leads out of it: {name[:200]}")
    return clean


class _Sender:
    """The file object that tarfile writes to."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.write = send
