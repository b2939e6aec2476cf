"""Passing on what a tar stream has of some files and directories, written anew: nothing of the stream itself goes on.

For what is kept of one guest for the next: an archive that a guest has had a hand in may say anything.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from typing import IO, Any, cast

from vmm.channel.archive import BLOCK, MAX_DEPTH, Copied, Sender, safe_mode
from vmm.channel.errors import GuestError
from vmm.channel.tar_reader import DIRECTORY, FILE, TarMember, TarReader

MOST_MEMBERS = 50_000


def sift(
    receive: Callable[[], bytes],
    send: Callable[[bytes], None],
    wanted: Sequence[str],
    limit: int,
    *,
    skip: bool = False,
) -> Copied:
    """Send on the files and directories that are one of the `wanted` paths or below one, `limit` bytes of content.

    A name that leads elsewhere, a link, a device and everything else raises GuestError; with `skip`, what has a good
    name and is neither a file nor a directory is left out. An empty stream has nothing.
    """
    first = receive()
    if not first:
        return Copied(0, 0, ())
    chunks = [first]
    reader = TarReader(lambda: chunks.pop() if chunks else receive())
    files = size = members = 0
    skipped: list[str] = []
    sender = cast("IO[bytes]", Sender(send))
    with tarfile.open(fileobj=sender, mode="w|", bufsize=BLOCK, format=tarfile.PAX_FORMAT) as tar:
        while (member := reader.next()) is not None:
            members, size = members + 1, size + member.size
            if members > MOST_MEMBERS or size > limit:
                raise GuestError(f"more than {MOST_MEMBERS} files, or {limit} bytes")
            name = _checked(member.name, wanted)
            if member.kind not in (FILE, DIRECTORY):
                if not skip:
                    raise GuestError(f"{name}: neither a file nor a directory")
                skipped += [f"{name}: neither a file nor a directory"] if len(skipped) < 20 else []
                continue
            files += member.kind == FILE
            _add(tar, name, member, reader)
    return Copied(files, size, tuple(skipped))


def _checked(name: str, wanted: Sequence[str]) -> str:
    """The name without a slash at its end. Raises GuestError for one that is not within what is wanted."""
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts) or len(parts) > MAX_DEPTH:
        raise GuestError(f"a name that leads elsewhere: {name!r}")
    clean = "/".join(parts)
    if not any(clean == one or clean.startswith(f"{one}/") for one in wanted):
        raise GuestError(f"a name that was not asked for: {name!r}")
    return clean


def _add(tar: tarfile.TarFile, name: str, member: TarMember, reader: TarReader) -> None:
    info = tarfile.TarInfo(name)
    info.type = tarfile.REGTYPE if member.kind == FILE else tarfile.DIRTYPE
    info.mode, info.mtime, info.size = safe_mode(member.mode), member.mtime_ns // 10**9, member.size
    tar.addfile(info, cast("IO[bytes]", _Content(reader)) if member.kind == FILE else None)
    cast("Any", tar).members.clear()  # it would remember them all


class _Content(io.RawIOBase):
    """A member's content, as tarfile reads it."""

    def __init__(self, reader: TarReader) -> None:
        self._reader = reader

    def read(self, size: int = -1) -> bytes:
        data = bytearray()
        while len(data) < size and (part := self._reader.read(size - len(data))):
            data += part
        return bytes(data)
