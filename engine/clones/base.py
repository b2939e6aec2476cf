"""The base of a clone: the files as they were copied, kept on the host, to be compared with later.

`base.tar` is what the guest was sent. `manifest.json` says of each file what was sent: [executable, size, time of
change in ns, digest]; of a link [None, its target]. The digest is that of a blob of git. What is applied later becomes
a part of the base: `newer/DIGEST` has its content. `about.json` has the commits that the copy had from the beginning,
and what git ignored then.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from engine.clones.choice import choose_files
from engine.clones.linked import Linked
from engine.clones.repository import REPOSITORY
from engine.errors import EngineError
from engine.files import make_private, write_json
from engine.workspaces.clone_point import ClonePoint
from vmm.beneath import DIRECTORY, PASS, open_beneath
from vmm.channel.archive import pack
from vmm.private import private
from vmm.walk import Found, LeaveOut, Readable, TooLarge, TreeChanged, TreeLimits, walk

TAR, MANIFEST, NEWER, ABOUT = "base.tar", "manifest.json", "newer", "about.json"
LIMITS = TreeLimits(entries=500_000, size=8 * 1024**3)
ATTEMPTS = 3  # at reading files that change in the meantime


class Entry(NamedTuple):
    """A file, or a link with its `target`. `digest` is git's of a blob; of a link, that of its target."""

    executable: bool
    digest: str
    size: int = 0
    mtime_ns: int = 0
    target: str | None = None

    def same_as(self, other: Entry | None) -> bool:
        """Whether a copy of it would be the same."""
        return other is not None and self[:2] == other[:2] and self.target == other.target


@dataclass(frozen=True)
class Base:
    """The base in `directory`, read."""

    directory: Path
    entries: dict[str, Entry] = field(repr=False)

    @classmethod
    def load(cls, directory: Path) -> Base:
        """Raises EngineError where there is none."""
        try:
            told = json.loads((directory / MANIFEST).read_text())
            return cls(directory, {path: Entry(*entry) for path, entry in told.items()})
        except (OSError, ValueError, TypeError) as error:
            raise EngineError(f"what the clone was made of cannot be read: {error}") from error

    def content(self, path: str) -> bytes:
        """The bytes of the base's file, or of its link's target. Raises EngineError."""
        entry = self.entries[path]
        if entry.target is not None:
            return os.fsencode(entry.target)
        newer = self.directory / NEWER / entry.digest
        if newer.exists():
            return newer.read_bytes()
        offset, size = self._places[path]
        with (self.directory / TAR).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Where the content of each file is in the tar, and its size."""
        with tarfile.open(self.directory / TAR) as tar:
            return {member.name: (member.offset_data, member.size) for member in tar if member.isreg()}

    @cached_property
    def _about(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.directory / ABOUT).read_text()))
        except (OSError, ValueError):
            return {}

    @property
    def head(self) -> str | None:
        """The commit that was checked out where it was made; None without one."""
        return self._about.get("head")

    @property
    def refs(self) -> tuple[str, ...]:
        """The commits that had a name where it was made."""
        return tuple(self._about.get("refs", ()))

    @property
    def ignores(self) -> bool:
        """Whether it was made of what git does not ignore."""
        return bool(self._about.get("ignores"))

    @cached_property
    def _ignored(self) -> frozenset[str]:
        return frozenset(self._about.get("ignored", ()))

    def was_ignored(self, path: str) -> bool:
        """Whether git ignored the file, or a directory that it is in, where it was made."""
        return any(one in self._ignored for one in (path, *map(str, PurePosixPath(path).parents)))

    def advance(self, changed: dict[str, tuple[Entry, bytes] | None]) -> None:
        """Make what was applied a part of the base; None: the file is gone.

        Whoever is killed meanwhile leaves the base that was: the contents come first, and the manifest in one step.
        """
        entries = dict(self.entries)
        for path, now in changed.items():
            if now is None:
                entries.pop(path, None)
            else:
                entries[path], content = now
                self.keep(now[0].digest, content)
        write_json(self.directory / MANIFEST, entries)
        self.entries.clear()
        self.entries.update(entries)
        self._drop_unneeded()

    def keep(self, digest: str, content: bytes) -> None:
        """Have the content in `newer`, whole or not at all."""
        make_private(self.directory / NEWER)
        if (self.directory / NEWER / digest).exists():
            return
        beside = self.directory / NEWER / f".{digest}"
        with open(beside, "wb", opener=private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.directory / NEWER / digest)

    def _drop_unneeded(self) -> None:
        """What was applied, and has been changed again since."""
        needed = {entry.digest for entry in self.entries.values()}
        for path in (self.directory / NEWER).glob("*"):
            if path.name not in needed:
                path.unlink(missing_ok=True)


def make_base(point: ClonePoint, directory: Path) -> str | None:
    """Copy the files of `point.source` into a base in `directory`. Returns what the user should know about the copy.

    Takes as long as reading the files.

    Raises EngineError for a directory that cannot be read, is too large, or keeps changing; OSError (disk full).
    """
    make_private(directory)
    choice = choose_files(Path(point.source))
    for left in reversed(range(ATTEMPTS)):
        try:
            leave_out = choice.leave_out(point.leave_out, point.hide)
            linked = choice.repositories(point.leave_out, point.hide)
            _copy(point, directory, leave_out, choice.configuration, linked)
        except TreeChanged:
            if not left:
                raise EngineError(f"{point.source} keeps changing while it is copied") from None
            continue
        except TooLarge as error:
            raise EngineError(f"{point.source} cannot be cloned: {error.filename or 'it'} {error.what}") from error
        about = {"head": choice.head, "refs": choice.refs, "ignores": choice.files is not None}
        write_json(directory / ABOUT, {**about, "ignored": sorted(choice.ignored)})
        return choice.note
    raise AssertionError("the last attempt returns or raises")


def _copy(
    point: ClonePoint, directory: Path, leave_out: LeaveOut, configuration: str | None, linked: Sequence[Linked]
) -> None:
    manifest: dict[str, Entry] = {}
    root = os.open("/", PASS)
    try:
        source = open_beneath(root, point.source.lstrip("/"), DIRECTORY)
    except OSError as error:
        raise EngineError(f"{point.source} cannot be copied: {error.strerror}") from error
    finally:
        os.close(root)
    try:
        with open(directory / TAR, "wb", opener=private) as file:
            entries = _recorded(walk(source, ".", leave_out, LIMITS), manifest)
            entries = chain(_with_configuration(entries, configuration), *map(_repository, linked))
            pack(entries, "", lambda data: cast("None", file.write(data)))
    finally:
        os.close(source)
    write_json(directory / MANIFEST, manifest)


def _recorded(entries: Iterable[Found], manifest: dict[str, Entry]) -> Iterator[Found]:
    """The same entries; what was read of each goes into the manifest."""
    for found in entries:
        executable = bool(found.mode & 0o100) and found.kind == "file"
        mode = 0o755 if executable or found.kind == "directory" else 0o644
        if found.content is None:
            yield replace(found, mode=mode)
            if found.kind == "link" and not _internal(found.name):
                target = found.link
                manifest[found.name] = Entry(False, blob_digest(os.fsencode(target)), target=target)
            continue
        content = _Hashed(found.content, found.size)
        yield replace(found, mode=mode, content=content)
        if not _internal(found.name):
            digest = content.digest.hexdigest()
            manifest[found.name] = Entry(executable, digest, found.size, round(found.mtime * 10**9))


def _with_configuration(entries: Iterable[Found], configuration: str | None) -> Iterator[Found]:
    yield from entries
    if configuration is not None:
        data = configuration.encode()
        content = cast("Readable", io.BytesIO(data))
        yield Found(f"{REPOSITORY}/config", "file", 0o644, 0.0, size=len(data), content=content)


def _repository(linked: Linked) -> Iterator[Found]:
    for found, content in linked.found(LIMITS):
        mode = 0o755 if found.kind == "directory" else 0o644
        given = cast("Readable", io.BytesIO(content)) if content is not None else found.content
        yield replace(found, mode=mode, content=given)


def _internal(name: str) -> bool:
    return name == REPOSITORY or name.startswith(f"{REPOSITORY}/")


def blob_digest(content: bytes) -> str:
    """git's name of a blob (git-hash-object, SHA-1)."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Hashed:
    def __init__(self, content: Readable, size: int) -> None:
        self._content = content
        self.digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def read(self, size: int = -1, /) -> bytes:
        data = self._content.read(size)
        self.digest.update(data)
        return data


def send_base(directory: Path, send: Any) -> None:
    """Send the base's tar, as `vmm.channel.copy.send_archive` wants it."""
    file: IO[bytes]
    with (directory / TAR).open("rb") as file:
        while block := file.read(1 << 18):
            send(block)
