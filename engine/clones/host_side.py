"""What this host has changed since the base of a clone was recorded: of what is copied, by the rules of the copy."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

from engine.clones.applying import PREFIX, Host
from engine.clones.base import LIMITS, MANIFEST, Base, Entry
from engine.clones.changes import MOST_BYTES, Change, Changes
from engine.clones.choice import choose_files
from engine.clones.held_back import is_repository
from engine.errors import EngineError
from engine.files import make_private
from engine.workspaces.clone_point import ClonePoint
from vmm.walk import Found, TooLarge, TreeChanged, walk

RACY_NS = 100_000_000  # a file changed so shortly before the base was recorded may have been changed again unseen
ATTEMPTS = 3  # at reading files that change in the meantime


def read_host_changes(point: ClonePoint, host: Host, base: Base, blobs: Path, kept: Callable[[str], bool]) -> Changes:
    """Compare the directory that the clone was made of with the base; the contents go into the directory `blobs`.

    What git ignores counts only where the base has it. `kept` says of a path that it was never copied, and never is.
    Takes as long as looking at the files. Raises EngineError for a directory that cannot be read.
    """
    make_private(blobs)
    for left in reversed(range(ATTEMPTS)):
        try:
            paths = _differing(point, host, base)
            return Changes(base, tuple(_changes(host, base, paths, blobs, kept)), blobs)
        except TreeChanged:
            if not left:
                raise EngineError(f"{point.source} keeps changing while it is read") from None
        except TooLarge as error:
            raise EngineError(f"{point.source} cannot be synced: {error.filename or 'it'} {error.what}") from error
    raise AssertionError("the last attempt returns or raises")


def _differing(point: ClonePoint, host: Host, base: Base) -> list[str]:
    """The paths of files and links that may differ from the base, and of all that are not among what is copied now."""
    choice = choose_files(Path(point.source))
    if base.ignores and choice.files is None:  # all that git ignores would go into the copy
        raise EngineError(
            f"{point.source} is no git repository any more, so nothing says which of its files are not copied",
            hint="`sandbox up --recreate` copies all of them",
        )
    leave_out = choice.leave_out(point.leave_out, point.hide)
    trusted_ns = (base.directory / MANIFEST).stat().st_mtime_ns - RACY_NS
    seen, found = set[str](), list[str]()
    for one in walk(host.directory, ".", lambda name, below: _never(name) or leave_out(name, below), LIMITS):
        if one.kind in ("file", "link"):
            seen.add(one.name)
            if _may_differ(one, base.entries.get(one.name), trusted_ns):
                if one.size > MOST_BYTES:
                    raise EngineError(f"{one.name} has changed, and is larger than {MOST_BYTES >> 20} MiB")
                found.append(one.name)
    return sorted({*found, *(base.entries.keys() - seen)})


def _never(name: str) -> bool:
    """A repository, or what another command of ours is about to move to its place."""
    last = name.rpartition("/")[2]
    return is_repository(last) or last.startswith(PREFIX)


def _may_differ(found: Found, before: Entry | None, trusted_ns: int) -> bool:
    if before is None or (found.kind == "link") != (before.target is not None):
        return True
    if found.content is None:
        return found.link != before.target
    if bool(found.mode & 0o100) != before.executable or found.size != before.size:
        return True
    # As rsync and git do: a file of the same size and time is the same file.
    mtime_ns = round(found.mtime * 10**9)
    if mtime_ns // 1000 == before.mtime_ns // 1000 and mtime_ns < trusted_ns:
        return False
    digest = hashlib.sha1(b"blob %d\0" % found.size, usedforsecurity=False)
    while block := found.content.read(1 << 18):
        digest.update(block)
    return digest.hexdigest() != before.digest


def _changes(host: Host, base: Base, paths: list[str], blobs: Path, kept: Callable[[str], bool]) -> list[Change]:
    found, size = list[Change](), 0
    for path in paths:
        if kept(path) or any(map(is_repository, path.split("/"))):
            continue
        try:
            now = host.look(path)
        except OSError as error:
            if not isinstance(error, IsADirectoryError) and error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise EngineError(f"{path} cannot be read: {error.strerror}") from error
            now = None  # a directory or a device is there, or a link above it: the file is gone
        entry, content = now if now is not None else (None, b"")
        before = base.entries.get(path)
        if entry is not None and not entry.same_as(before):
            size += len(content)
            if size > MOST_BYTES:
                raise EngineError(f"more than {MOST_BYTES >> 20} MiB have changed in {host.source}")
            (blobs / entry.digest).write_bytes(content)
            found.append(Change(path, before, entry))
        elif entry is None and before is not None:
            found.append(Change(path, before, None))
    return found
