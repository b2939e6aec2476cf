"""The cache of build results.

Entries are immutable and named by a hash of what they were made from. Each is built once, however many processes ask
for it, and is either complete or not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine.cache.condition import look_at, record_files
from engine.cache.disk_space import explain_full_disk, require_room
from engine.errors import EngineError
from engine.files import make_private, read_json, write_json
from engine.secrets.secrecy import masked_inputs
from engine.state.instance_paths import Sockets
from engine.state.layout import LOCKS, TMP, Layout
from engine.state.trees import disk_usage, remove_tree, sync, sync_tree

POLL_S = 0.1  # between two tries of a lock: waiting in flock itself would block the event loop
NAMELESS = 10  # tries until one that waits no longer waits for the name of who builds


@dataclass(frozen=True)
class Entry:
    """A finished entry. It takes `size` bytes of disk, and took `seconds` to build.

    `build` is random: it tells two builds of the same key apart.
    """

    kind: str
    key: str
    path: Path
    build: str
    inputs: Mapping[str, str]
    parents: Mapping[str, str]  # "kind/key" of an entry that this one builds upon -> the `build` of that entry
    created: datetime
    last_used: datetime
    size: int
    seconds: float
    title: str = ""  # what it is for, in the words of the plan that it was built by; "" in entries of older versions


@dataclass(frozen=True)
class Build:
    """An entry in the making: the builder fills `directory`. `sockets` are for machines that it starts."""

    directory: Path
    sockets: Sockets


class Store:
    """The entries below `layout.cache`. Many processes may use them at once."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._read_entries: dict[Path, Entry | None] | None = None  # by path; None outside of `one_look`
        self._broken_parents: dict[Path, str | None] = {}  # by the path of the entry, within `one_look`
        self._damages: dict[Path, str | None] = {}  # the same

    # -- reading

    def find(self, kind: str, key: str) -> Path | None:
        """The directory of a complete and sound entry (`is_sound`), None when there is none.

        Marks the entry as used.
        """
        entry = self.entry(kind, key)
        if entry is None or not self.is_sound(entry):
            return None
        with contextlib.suppress(OSError):  # a read-only cache is still a cache
            os.utime(self.layout.entry_marker(entry.path))
        return entry.path

    def entry(self, kind: str, key: str) -> Entry | None:
        """The complete entry, sound or not; None when there is none. A half-written record counts as no entry."""
        path = self.layout.entry(kind, key)
        if self._read_entries is None:
            return self._read(path)
        if path not in self._read_entries:
            self._read_entries[path] = self._read(path)
        return self._read_entries[path]

    def _read(self, path: Path) -> Entry | None:
        try:
            used = self.layout.entry_marker(path).stat().st_mtime
            record = read_json(self.layout.entry_record(path))
            return Entry(
                kind=record["kind"],
                key=record["key"],
                path=path,
                build=record["build"],
                inputs=masked_inputs(record["inputs"]),
                parents=record["parents"],
                created=datetime.fromisoformat(record["created"]),
                last_used=datetime.fromtimestamp(used, UTC),
                size=record["size"],
                seconds=record["seconds"],
                title=str(record.get("title", "")),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def is_sound(self, entry: Entry) -> bool:
        """Whether its files are as they were made, and every ancestor is there, *in the build* that it was made from.

        A parent that was removed and built again has the same key but other bytes. A disk that was backed by the old
        parent's disk would be silently corrupt on the new one.
        """
        return self.damage(entry) is None and self.broken_parent(entry) is None

    def damage(self, entry: Entry) -> str | None:
        """What is wrong with the entry's own files (`condition.look_at`); None where nothing is found."""
        if self._read_entries is None:
            return look_at(entry.path)
        if entry.path not in self._damages:
            self._damages[entry.path] = look_at(entry.path)
        return self._damages[entry.path]

    def broken_parent(self, entry: Entry) -> str | None:
        """The nearest ancestor ("kind/key") that is gone, damaged or built again; None where there is none."""
        if self._read_entries is None:
            with self.one_look():
                return self.broken_parent(entry)
        if entry.path not in self._broken_parents:
            self._broken_parents[entry.path] = self._find_broken_parent(entry)
        return self._broken_parents[entry.path]

    def _find_broken_parent(self, entry: Entry) -> str | None:
        for name, build in entry.parents.items():
            parent = self.entry(*name.split("/", 1))
            if parent is None or parent.build != build or self.damage(parent) is not None:
                return name
            if further := self.broken_parent(parent):
                return further
        return None

    @contextlib.contextmanager
    def one_look(self) -> Iterator[None]:
        """Within the block each entry is read from the disk once, and remembered.

        So a chain of entries is judged in the state of one moment, and each of its entries is read once. Do not wait or
        build within the block.
        """
        if self._read_entries is not None:
            yield
            return
        self._read_entries, self._broken_parents, self._damages = {}, {}, {}
        try:
            yield
        finally:
            self._read_entries = None

    def entries(self) -> list[Entry]:
        """All complete entries, ordered by kind and key."""
        found = []
        for kind in sorted(self.layout.cache.glob("*/")) if self.layout.cache.is_dir() else []:
            if kind.name in (TMP, LOCKS):
                continue
            for path in sorted(kind.iterdir()):
                with contextlib.suppress(EngineError):  # a stray directory that is no entry
                    if entry := self.entry(kind.name, path.name):
                        found.append(entry)
        return found

    # -- changing

    @contextlib.asynccontextmanager
    async def build(
        self,
        kind: str,
        key: str,
        *,
        on_wait: Callable[[str], None],
        inputs: Mapping[str, str] | None = None,
        parents: Sequence[tuple[str, str]] = (),
        needed_bytes: int = 0,
        title: str = "",
    ) -> AsyncIterator[Build | None]:
        """Build one entry: the body fills `Build.directory`, which becomes the entry unless the body raises.

        Yields None when another process has finished the entry in the meantime: then there is nothing to do. Only one
        process builds an entry. While another one builds it this one waits, without limit, and tells `on_wait` once who
        the other one is. `parents` are the entries that this one builds upon (`is_sound`). Raises EngineError when the
        disk has less than `needed_bytes` free or gets full, and when a parent is missing.
        """
        async with self._locked(kind, key, on_wait):
            if self.find(kind, key) is not None:  # finished after the caller had looked, and before the lock was free
                yield None
                return
            random = secrets.token_hex(4)
            directory = self.layout.temporary_entry(kind, key, random)
            sockets = self.layout.build_sockets(random)
            try:
                with explain_full_disk(self.layout.cache, directory, needed_bytes):
                    self._sweep_key(kind, key)  # this process holds the lock, so these remains are those of a crash
                    require_room(self.layout.cache, needed_bytes)
                    continued = self._parent_builds(parents)
                    make_private(directory)
                    sockets.directory.mkdir(parents=True, mode=0o700)
                    started = time.monotonic()
                    yield Build(directory, sockets)
                    record = {
                        "version": 1,
                        "kind": kind,
                        "key": key,
                        "build": secrets.token_hex(8),
                        "inputs": dict(inputs or {}),
                        "parents": continued,
                        "created": datetime.now(UTC).isoformat(timespec="seconds"),
                        "seconds": round(time.monotonic() - started, 1),
                        "title": title,
                    }
                    await asyncio.to_thread(self._seal, directory, record)
                    self._publish(directory, kind, key)
            finally:
                remove_tree(directory)
                remove_tree(sockets.directory)

    def remove(self, kind: str, key: str) -> bool:
        """Delete an entry; False when there was none. Raises EngineError while a process builds it."""
        aside = self.set_aside(kind, key)
        if aside is not None:
            remove_tree(aside)
        return aside is not None

    def set_aside(self, kind: str, key: str) -> Path | None:
        """Take an entry out of the cache in one step, and return where it can be deleted; None when there was none.

        Whoever is killed before it deletes that leaves it to the next `sweep`. Raises EngineError while a process
        builds the entry.
        """
        lock = self._lock(kind, key)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise EngineError(f"{kind} {key[:8]} is being built; not removed") from error
        try:
            path = self.layout.entry(kind, key)
            return self._move_aside(path, kind, key) if path.exists() else None
        finally:
            lock.release()

    def sweep(self) -> int:
        """Delete the directories that killed builders have left behind, and return their number.

        The directories of builders that still run stay.
        """
        swept = 0
        for path in sorted(self.layout.temporary.glob("*")):
            kind, _, rest = path.name.rpartition("-")[0].rpartition("-")
            lock = None
            with contextlib.suppress(EngineError, Timeout):
                lock = self._lock(kind, rest)
                lock.acquire(blocking=False)
                try:
                    swept += 1
                    self._sweep_one(path)
                finally:
                    lock.release()
        return swept

    # -- inside

    def _lock(self, kind: str, key: str) -> FileLock:
        path = self.layout.entry_lock(kind, key)
        make_private(path.parent)
        return FileLock(path, mode=0o600)

    @contextlib.asynccontextmanager
    async def _locked(self, kind: str, key: str, on_wait: Callable[[str], None]) -> AsyncIterator[None]:
        owner = self.layout.entry_lock_owner(kind, key)
        with explain_full_disk(self.layout.cache, owner):
            lock = await self._acquire(kind, key, on_wait)
        try:
            with contextlib.suppress(OSError):  # on a full disk: those who wait are not told who builds
                write_json(owner, {"pid": os.getpid(), "since": time.time()})
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    async def _acquire(self, kind: str, key: str, on_wait: Callable[[str], None]) -> FileLock:
        lock, owner = self._lock(kind, key), self.layout.entry_lock_owner(kind, key)
        waits = 0
        said = False
        while True:
            try:
                lock.acquire(blocking=False)
                return lock
            except Timeout:
                # Who has just taken the lock has not written its name yet.
                name = _describe_owner(owner) or ("another process" if waits == NAMELESS else None)
                if not said and name is not None:
                    on_wait(f"{kind} {key[:6]} is being built by {name}")
                    said = True
                waits += 1
                await asyncio.sleep(POLL_S)

    def _parent_builds(self, parents: Sequence[tuple[str, str]]) -> dict[str, str]:
        builds = {}
        for kind, key in parents:
            entry = self.entry(kind, key)
            if entry is None:
                raise EngineError(f"the cache entry {kind} {key[:8]} has disappeared", hint="run the command again")
            builds[f"{kind}/{key}"] = entry.build
        return builds

    def _seal(self, directory: Path, record: dict[str, Any]) -> None:
        """Write the record and the marker; runs in a thread.

        The marker says that the entry is complete, so everything else must be on the disk before it.
        """
        record_files(directory)
        write_json(self.layout.entry_record(directory), record | {"size": disk_usage(directory)})
        sync_tree(directory)
        marker = self.layout.entry_marker(directory)
        marker.touch(mode=0o600)
        sync(marker)
        sync(directory)

    def _publish(self, directory: Path, kind: str, key: str) -> None:
        entry = self.layout.entry(kind, key)
        make_private(entry.parent)
        if entry.exists():  # incomplete after a power cut, or no longer sound
            self._discard(entry, kind, key)
        directory.replace(entry)
        sync(entry.parent)

    def _discard(self, path: Path, kind: str, key: str) -> None:
        """Delete an entry. It is renamed first, in one step, so that nobody ever sees half of it."""
        remove_tree(self._move_aside(path, kind, key))

    def _move_aside(self, path: Path, kind: str, key: str) -> Path:
        aside = self.layout.temporary_entry(kind, key, secrets.token_hex(4))
        make_private(aside.parent)
        path.replace(aside)
        return aside

    def _sweep_key(self, kind: str, key: str) -> None:
        for path in self.layout.temporary.glob(f"{kind}-{key}-*"):
            self._sweep_one(path)

    def _sweep_one(self, path: Path) -> None:
        remove_tree(path)
        remove_tree(self.layout.build_sockets(path.name.rpartition("-")[2]).directory)


def _describe_owner(path: Path) -> str | None:
    try:
        owner = read_json(path)
        return f"process {owner['pid']} since {datetime.fromtimestamp(owner['since']):%H:%M:%S}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
