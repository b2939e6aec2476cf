"""The cache: immutable entries named by the content that made them, built once whoever asks, whole or not there."""

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

from engine.cache.disk_space import explain_full_disk, require_room
from engine.errors import EngineError
from engine.files import make_private, read_json, write_json
from engine.secrets.secrecy import masked_inputs
from engine.state.layout import LOCKS, TMP, Layout, Sockets
from engine.state.trees import disk_usage, remove_tree, sync, sync_tree

POLL_S = 0.1  # between two tries of a lock: flock has no way to wait that an event loop could share


@dataclass(frozen=True)
class Entry:
    """A finished entry. `size` in bytes of disk, `seconds` it took; `build` tells two builds of one key apart."""

    kind: str
    key: str
    path: Path
    build: str
    inputs: Mapping[str, str]
    parents: Mapping[str, str]  # "kind/key" -> the build of it that this entry continues
    created: datetime
    last_used: datetime
    size: int
    seconds: float


@dataclass(frozen=True)
class Build:
    """An entry in the making: fill `directory`. With `existing` somebody else has finished it: do nothing."""

    directory: Path
    sockets: Sockets  # for machines that the build starts
    existing: Path | None = None


class Store:
    """The entries below `layout.cache`. Safe to use from many processes at once."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._looked: dict[Path, Entry | None] | None = None
        self._broken: dict[Path, str | None] = {}

    # -- reading

    def find(self, kind: str, key: str) -> Path | None:
        """The directory of a complete entry whose parents are still the ones it continues; notes it as used."""
        entry = self.entry(kind, key)
        if entry is None or not self.is_sound(entry):
            return None
        with contextlib.suppress(OSError):  # a read-only cache is still a cache
            os.utime(self.layout.entry_marker(entry.path))
        return entry.path

    def entry(self, kind: str, key: str) -> Entry | None:
        """What is known of a complete entry, sound or not. A half-written record counts as no entry."""
        path = self.layout.entry(kind, key)
        if self._looked is None:
            return self._read(path)
        if path not in self._looked:
            self._looked[path] = self._read(path)
        return self._looked[path]

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
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def is_sound(self, entry: Entry) -> bool:
        """Whether every recorded parent is there *and the same build*.

        A parent that was removed and built again has the same key but other bytes: a disk that is backed by the old
        one would be silently corrupt on the new one.
        """
        return self.broken_parent(entry) is None

    def broken_parent(self, entry: Entry) -> str | None:
        """The nearest recorded ancestor ("kind/key") that is gone or was built anew."""
        if self._looked is None:
            with self.one_look():
                return self.broken_parent(entry)
        if entry.path not in self._broken:
            self._broken[entry.path] = self._look_for_broken(entry)
        return self._broken[entry.path]

    def _look_for_broken(self, entry: Entry) -> str | None:
        for name, build in entry.parents.items():
            parent = self.entry(*name.split("/", 1))
            if parent is None or parent.build != build:
                return name
            if further := self.broken_parent(parent):
                return further
        return None

    @contextlib.contextmanager
    def one_look(self) -> Iterator[None]:
        """Within the block each entry is read once: what is said of a chain is of one moment, and costs its length.

        Not for a block that waits or builds.
        """
        if self._looked is not None:
            yield
            return
        self._looked, self._broken = {}, {}
        try:
            yield
        finally:
            self._looked = None

    def entries(self) -> list[Entry]:
        """All complete entries, by kind and key. `size` of each is in bytes of disk."""
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
    ) -> AsyncIterator[Build]:
        """Make one entry: the body fills `Build.directory`, a clean end makes it the entry, any other removes it.

        One builder per entry: waits, without limit, until no other process builds it, and then tells `on_wait` once
        who does. `parents` are the entries that this one continues (`is_sound`); `needed_bytes` of free disk are asked
        for first. Raises EngineError when the disk is full or a parent is missing.
        """
        async with self._locked(kind, key, on_wait):
            # Somebody may have finished between the caller's look and our lock.
            random = secrets.token_hex(4)
            directory = self.layout.temporary_entry(kind, key, random)
            sockets = self.layout.build_sockets(random)
            if existing := self.find(kind, key):
                yield Build(existing, sockets, existing)
                return
            try:
                with explain_full_disk(self.layout.cache, directory, needed_bytes):
                    self._sweep_key(kind, key)  # ours is the lock, so what lies there was left by a crash
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
                    }
                    await asyncio.to_thread(self._seal, directory, record)
                    self._publish(directory, kind, key)
            finally:
                remove_tree(directory)
                remove_tree(sockets.directory)

    def remove(self, kind: str, key: str) -> bool:
        """Delete an entry; False when there was none. Raises EngineError while somebody builds it."""
        lock = self._lock(kind, key)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise EngineError(f"{kind} {key[:8]} is being built; not removed") from error
        try:
            path = self.layout.entry(kind, key)
            if not path.exists():
                return False
            self._discard(path, kind, key)
            return True
        finally:
            lock.release()

    def sweep(self) -> int:
        """Delete what killed builders have left behind; returns how many directories. Those being built are kept."""
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
            with contextlib.suppress(OSError):  # on a full disk: those who wait learn less
                write_json(owner, {"pid": os.getpid(), "since": time.time()})
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    async def _acquire(self, kind: str, key: str, on_wait: Callable[[str], None]) -> FileLock:
        lock, owner = self._lock(kind, key), self.layout.entry_lock_owner(kind, key)
        waited = False
        while True:
            try:
                lock.acquire(blocking=False)
                return lock
            except Timeout:
                if not waited:
                    on_wait(f"{kind} {key[:6]} is being built by {_describe_owner(owner)}")
                waited = True
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
        """Runs in a thread. The marker comes after everything else is on the disk: it vouches for the rest."""
        write_json(self.layout.entry_record(directory), record | {"size": disk_usage(directory)})
        sync_tree(directory)
        marker = self.layout.entry_marker(directory)
        marker.touch(mode=0o600)
        sync(marker)
        sync(directory)

    def _publish(self, directory: Path, kind: str, key: str) -> None:
        entry = self.layout.entry(kind, key)
        make_private(entry.parent)
        if entry.exists():  # incomplete after a power cut, or not sound any more
            self._discard(entry, kind, key)
        directory.replace(entry)
        sync(entry.parent)

    def _discard(self, path: Path, kind: str, key: str) -> None:
        """Away in one step first: nobody ever sees half of an entry."""
        aside = self.layout.temporary_entry(kind, key, secrets.token_hex(4))
        make_private(aside.parent)
        path.replace(aside)
        remove_tree(aside)

    def _sweep_key(self, kind: str, key: str) -> None:
        for path in self.layout.temporary.glob(f"{kind}-{key}-*"):
            self._sweep_one(path)

    def _sweep_one(self, path: Path) -> None:
        remove_tree(path)
        remove_tree(self.layout.build_sockets(path.name.rpartition("-")[2]).directory)


def _describe_owner(path: Path) -> str:
    try:
        owner = read_json(path)
        return f"process {owner['pid']} since {datetime.fromtimestamp(owner['since']):%H:%M:%S}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it holds the lock and has not yet said who it is
