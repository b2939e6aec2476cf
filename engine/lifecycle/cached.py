"""The cache as its user sees it: what is in it, what each entry is for, what keeps it; and taking entries out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.cache.condition import examine, has_digests
from engine.cache.needs import By, Keeper, dependents, find_needs, name_of
from engine.cache.pruning import Removed, Wanted, measured, prune, remove_entries
from engine.cache.store import Entry, Store
from engine.errors import EngineError

ID_LENGTH = 12  # digits of a key that are shown; any beginning that fits one entry only is taken
SHORTEST = 4
# What a kind is in the words of the documents; every other kind is a snapshot of a machine.
CLASSES = {
    "toolchain": "tools",
    "accelerator": "probe",
    "image": "image",
    "initramfs": "initramfs",
    "disk": "disk",
    "agent-layer": "layer",
    "agent-package": "download",
    "agent-packages": "download",
}
TITLES = {
    "toolchain": "QEMU and the guest kernel",
    "accelerator": "which accelerator boots a guest",
    "image": "Debian guest image",
    "initramfs": "initramfs and guestd",
    "disk": "empty guest disk",
    "booted": "booted machine with Docker",
    "images": "images of the services",
    "services": "services up and healthy",
    "agent-layer": "layer of an agent",
}


@dataclass(frozen=True)
class Cached:
    """One entry, with the bytes that it takes on the disk now, and what keeps it. `damage` is what is wrong with it.

    `useless`: something that it was built upon is gone, so that nothing can use it any more.
    """

    entry: Entry
    size: int
    keepers: tuple[Keeper, ...]
    damage: str | None = None
    useless: bool = False

    @property
    def id(self) -> str:
        return self.entry.key[:ID_LENGTH]

    @property
    def kind(self) -> str:
        return CLASSES.get(self.entry.kind, "snapshot")

    @property
    def purpose(self) -> str:
        return purpose(self.entry)

    def kept_by(self, *by: By) -> tuple[Keeper, ...]:
        return tuple(keeper for keeper in self.keepers if keeper.by in by)

    def to_json(self) -> dict[str, Any]:
        entry = self.entry
        return {
            "id": self.id,
            "kind": self.kind,
            "node": entry.kind,
            "key": entry.key,
            "purpose": self.purpose,
            "size": self.size,
            "created": entry.created.isoformat(),
            "last_used": entry.last_used.isoformat(),
            "build_seconds": entry.seconds,
            "kept_by": [{"by": one.by, "name": one.name, "more": one.more} for one in self.keepers],
            "damage": self.damage,
            "useless": self.useless,
            "path": str(entry.path),
        }


def purpose(entry: Entry) -> str:
    """What the entry is for, such as `setup: npm ci`."""
    if entry.title:
        return f"setup: {entry.title}" if entry.kind == "setup" else entry.title
    given = entry.inputs
    match entry.kind:
        case "setup":
            return "setup: " + (given.get("run", "").strip().splitlines() or ["a step"])[0]
        case "agent":
            return f"{given.get('agent', 'an agent')} {given.get('version', '')}".rstrip()
        case "packages":
            return f"Debian packages {given.get('packages', '')}".rstrip()
        case "agent-package":
            return f"{given.get('package', 'a package')} {given.get('version', '')}".rstrip()
        case "agent-packages":
            return f"{given.get('packages', 'the')} packages of an agent"
    return TITLES.get(entry.kind, entry.kind)


def list_cached(store: Store) -> list[Cached]:
    """All entries, the largest first. Measures them, so it takes a moment for a large cache."""
    entries = store.entries()
    needs, above = find_needs(store, entries), dependents(entries)
    found = []
    with store.one_look():
        for entry in entries:
            name = name_of(entry)
            built_upon = [Keeper("entry", name_of(one), purpose(one)) for one in above.get(name, ())]
            keepers = (*needs.needed.get(name, ()), *needs.planned.get(name, ()), *built_upon)
            useless = store.broken_parent(entry) is not None
            found.append(Cached(entry, measured(entry), keepers, store.damage(entry), useless))
    return sorted(found, key=lambda one: (-one.size, one.entry.key))


def chosen_entries(store: Store, words: Sequence[str]) -> list[Entry]:
    """The entries that the beginnings of keys in `words` mean, as `cache ls` shows them, or KIND/KEY.

    Raises EngineError (exit code 2) for one that fits none, or several.
    """
    entries, chosen = store.entries(), {}
    for word in words:
        kind, _, key = word.rpartition("/")
        fitting = [
            entry
            for entry in entries
            if len(key) >= SHORTEST and entry.key.startswith(key) and kind in ("", entry.kind, CLASSES.get(entry.kind))
        ]
        if len(fitting) != 1:
            several = ", ".join(f"{entry.kind}/{entry.key[:ID_LENGTH]}" for entry in fitting)
            brief = (
                f"{word!r} fits several entries: {several}" if fitting else f"no entry of the cache is called {word!r}"
            )
            raise EngineError(brief, hint="`sandbox cache ls` shows the ids", exit_code=2)
        chosen[name_of(fitting[0])] = fitting[0]
    return list(chosen.values())


def prune_cache(store: Store, wanted: Wanted, *, dry_run: bool = False) -> Removed:
    """As `engine.cache.pruning.prune`."""
    return prune(store, wanted, dry_run=dry_run)


def remove_cached(store: Store, words: Sequence[str]) -> Removed:
    """Remove the entries that `words` mean, all or none. Raises EngineError."""
    return remove_entries(store, [name_of(entry) for entry in chosen_entries(store, words)])


@dataclass(frozen=True)
class Verdict:
    """What a look at every byte of an entry showed. `digests` is False for an entry without any to compare with."""

    entry: Entry
    damage: str | None
    digests: bool


def verify_cached(store: Store, words: Sequence[str]) -> Iterator[Verdict]:
    """Read every byte of the entries that `words` mean, of all without any. Takes a second for each few 100 MB."""
    for entry in chosen_entries(store, words) if words else store.entries():
        yield Verdict(entry, examine(entry.path), has_digests(entry.path))


def age(then: datetime, now: datetime | None = None) -> str:
    """How long ago that was, such as `3 d`."""
    seconds = max(0, int(((now or datetime.now(UTC)) - then).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
