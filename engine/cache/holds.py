"""What processes need of the cache just now, so that nobody prunes it under them.

A process that builds, or starts a machine of what was built, holds the entries by their names: in a file beside the
locks of the cache, with the kernel's lock on it while the process lives. Whoever removes entries reads all such files
first, and keeps new ones from being written until the entries are gone. The user's state directories are noted as well:
tests and accounts with several of them share one cache, and the disks of all their sandboxes are backed by its entries.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from engine.cache.disk_space import explain_full_disk
from engine.files import make_private, read_json, write_json
from engine.scarcity import is_scarcity
from engine.state.keys import bytes_key
from engine.state.layout import Layout
from engine.state.locks import is_locked, locked


@dataclass
class Hold:
    """The entries that this process needs, until the block of `hold_entries` ends."""

    layout: Layout
    _path: Path | None
    _names: set[str] = field(default_factory=set)

    def add(self, names: Iterable[str]) -> None:
        """Hold the entries called `names` ("kind/key") from now on, whether they are there yet or not.

        Waits while entries are being taken away. What the caller found before may be among them: look again.
        Raises EngineError (disk full).
        """
        self._names |= set(names)
        if self._path is None:
            return
        with explain_full_disk(self.layout.cache, self._path.parent), removal_lock(self.layout):
            # In place: the lock is on this very file.
            self._path.write_text(json.dumps({"pid": os.getpid(), "entries": sorted(self._names)}))


@contextlib.contextmanager
def hold_entries(layout: Layout) -> Iterator[Hold]:
    """Within the block, what is added to the hold is not removed by anybody. Raises EngineError (disk full)."""
    path = layout.hold(secrets.token_hex(8))
    try:
        with explain_full_disk(layout.cache, path.parent):
            make_private(path.parent)
            _note_state(layout)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        yield Hold(layout, None)  # a read-only cache is still a cache, and nothing is removed from it
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield Hold(layout, path)
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def removal_lock(layout: Layout) -> AbstractContextManager[None]:
    """Held while a hold is written, and while entries are taken out of the cache: for milliseconds, so it waits."""
    return locked(layout.removal_lock)


def held_entries(layout: Layout) -> dict[str, list[int]]:
    """The names of the entries that processes hold, and the numbers of those processes. Forgets those that ended.

    Raises OSError where there is too little of something to look.
    """
    found: dict[str, list[int]] = {}
    for path in layout.holds():
        if is_locked(path, remove=True):  # else the process that wrote it has ended
            with _readable():
                record = read_json(path)
                for name in record["entries"]:
                    found.setdefault(name, []).append(record["pid"])
    return found


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Leave out what is damaged, and not what cannot be read for want of descriptors: it would count as not needed."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        if is_scarcity(error):
            raise


def known_states(layout: Layout) -> list[Path]:
    """The state directories that have used this cache and are still there; that of `layout` is the first.

    Raises OSError where there is too little of something to look.
    """
    states = [layout.state]
    for path in layout.noted_states():
        with _readable():
            state = Path(read_json(path)["state"])
            if not state.is_dir():
                path.unlink(missing_ok=True)
            elif state not in states:
                states.append(state)
    return states


def _note_state(layout: Layout) -> None:
    state = layout.state.resolve()
    path = layout.noted_state(bytes_key(os.fsencode(state))[:16])
    if not path.exists():
        write_json(path, {"state": str(state)})
