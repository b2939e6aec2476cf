"""A small tree of files as one request to guestd, in the place of a tar that is started in the guest for it."""

from __future__ import annotations

import base64
import tarfile
from pathlib import Path
from typing import Any

from vmm.channel.archive import GUEST_UID
from vmm.channel.guest import GuestChannel

MOST_BYTES, MOST_ENTRIES = 1 << 20, 1000  # of the tar; a request has at most 8 MiB, and guestd holds it in memory
WRITE_S = 60.0
KINDS = {tarfile.DIRTYPE: "directory", tarfile.REGTYPE: "file", tarfile.SYMTYPE: "link"}

Entries = list[list[Any]]


def read_small(archive: Path) -> Entries | None:
    """The entries of a tar as guestd's `tree` takes them, or None where they are too many or of other kinds."""
    if archive.stat().st_size > MOST_BYTES:
        return None
    entries: Entries = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.type not in KINDS or len(entries) == MOST_ENTRIES:
                return None
            file = tar.extractfile(member) if member.isreg() else None
            content = base64.b64encode(file.read()).decode() if file is not None else member.linkname
            time_ns = round(member.mtime * 10**9)
            entries.append([member.name, KINDS[member.type], member.mode, time_ns, content])
    return entries


async def write_small(channel: GuestChannel, entries: Entries, target: str, uid: int = GUEST_UID) -> None:
    """Write them at `target`, which is made when missing, as those of user `uid`. Raises GuestError."""
    await channel.call("tree", timeout_s=WRITE_S, target=target, uid=uid, entries=entries)
