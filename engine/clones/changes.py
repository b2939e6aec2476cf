"""What a guest has changed in its clone: asked of the guest, and judged here. Nothing that it says is trusted.

Whatever it sends is content under a name that was checked, kept by digest in a directory of ours. The guest can lie
about its own copy only.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.clones import in_guest
from engine.clones.base import Base, Entry, blob_digest
from engine.clones.held_back import is_repository
from engine.errors import EngineError
from engine.files import make_private
from vmm.channel.copy import receive_archive
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.channel.tar_reader import FILE, LINK, TarMember, TarReader

STATE = "/var/lib/sandbox"
PUT_S = 120.0
LOOK_S = 900.0
MOST_FILES, MOST_BYTES, MOST_TOLD = 100_000, 512 << 20, 64 << 20
BLOCK = 1 << 18


@dataclass(frozen=True)
class Change:
    """One file or link: `before` as it was copied, `after` as it is in the guest; None where there is none."""

    path: str
    before: Entry | None
    after: Entry | None

    @property
    def word(self) -> str:
        return "new" if self.before is None else "gone" if self.after is None else "changed"


@dataclass(frozen=True)
class Changes:
    """All changes of one clone, by path. `blobs` has the contents of `after`, by digest. `skipped` was left out."""

    base: Base
    found: tuple[Change, ...]
    blobs: Path
    skipped: tuple[str, ...] = ()

    def before(self, change: Change) -> bytes:
        return self.base.content(change.path) if change.before is not None else b""

    def after(self, change: Change) -> bytes:
        if change.after is None:
            return b""
        if change.after.target is not None:
            return os.fsencode(change.after.target)
        return (self.blobs / change.after.digest).read_bytes()


async def read_changes(channel: GuestChannel, target: str, base: Base, blobs: Path) -> Changes:
    """Compare the clone at `target` with its base. Waits LOOK_S for the guest to look at its files.

    The contents go into the directory `blobs`. Raises GuestError for a guest that cannot, or that sends what it should
    not, and EngineError where that is too much.
    """
    make_private(blobs)
    # One for each clone, by its path: another may be looked at meanwhile.
    manifest = f"{STATE}/clone-{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}.json"
    put = ["sh", "-c", 'umask 077; mkdir -p "${1%/*}"; cat > "$1"', "sh", manifest]
    done = await channel.run(put, stdin=json.dumps(base.entries).encode(), timeout_s=PUT_S)
    if done.code != 0:
        raise GuestError("the guest cannot be asked for changes", done.stderr.decode(errors="replace").strip() or None)
    program = Path(in_guest.__file__).read_text()
    argv = ["python3", "-I", "-c", program, target, manifest, "yes" if base.ignores else "no"]
    told = _Told(base, blobs)
    try:
        async with asyncio.timeout(LOOK_S):
            await receive_archive(channel, argv, told.take, f"the changes of {target}")
    except TimeoutError:
        raise GuestError(f"the guest did not say within {LOOK_S:.0f} s what has changed in {target}") from None
    return told.changes()


class _Told:
    """What the guest's archive tells, member by member."""

    def __init__(self, base: Base, blobs: Path) -> None:
        self._base = base
        self._blobs = blobs
        self._after: dict[str, Entry | None] = {}
        self._skipped: list[str] = []
        self._size = self._members = 0

    def changes(self) -> Changes:
        found = []
        for path, after in sorted(self._after.items()):
            before = self._base.entries.get(path)
            if (after is None and before is not None) or (after is not None and not after.same_as(before)):
                found.append(Change(path, before, after))
        return Changes(self._base, tuple(found), self._blobs, tuple(self._skipped))

    def take(self, receive: Callable[[], bytes]) -> None:
        reader = TarReader(receive)
        first = reader.next()
        if first is None or first.name != "changes.json" or first.size > MOST_TOLD:
            raise GuestError("the guest does not say what has changed")
        try:
            told = json.loads(_read_all(reader))
            gone = [path for path in told["gone"] if path in self._base.entries]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise GuestError("the guest does not say what has changed") from error
        while (member := reader.next()) is not None:
            self._take_member(reader, member)
        for path in gone:
            self._after.setdefault(path, None)

    def _take_member(self, reader: TarReader, member: TarMember) -> None:
        self._size, self._members = self._size + member.size, self._members + 1
        if self._members > MOST_FILES or self._size > MOST_BYTES:
            raise EngineError(f"more than {MOST_FILES:,} files or {MOST_BYTES >> 20} MiB have changed in the clone")
        path = _checked(member.name)
        if path is None:
            self._skip(member.name)
        elif member.kind == LINK:
            self._after[path] = Entry(False, blob_digest(os.fsencode(member.link)), target=member.link)
        elif member.kind == FILE:
            digest = self._keep(reader, member.size)
            self._after[path] = Entry(bool(member.mode & 0o100), digest, member.size, member.mtime_ns)
        else:
            self._skip(member.name)

    def _skip(self, name: str) -> None:
        if len(self._skipped) < 20:
            self._skipped.append(name.removeprefix("files/")[:200])

    def _keep(self, reader: TarReader, size: int) -> str:
        """Write the content into a file that has its digest's name."""
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        beside = self._blobs / "beside"
        with beside.open("wb") as file:
            while block := reader.read(BLOCK):
                digest.update(block)
                file.write(block)
        beside.replace(self._blobs / digest.hexdigest())
        return digest.hexdigest()


def _read_all(reader: TarReader) -> bytes:
    data = bytearray()
    while block := reader.read(BLOCK):
        data += block
    return bytes(data)


def _checked(name: str) -> str | None:
    """The path in the clone; None for one that leads elsewhere, or into a repository of git."""
    before, _, path = name.partition("/")
    parts = path.split("/")
    if before != "files" or any(part in ("", ".", "..") or "\0" in part or "\n" in part for part in parts):
        return None
    return None if any(map(is_repository, parts)) else path
