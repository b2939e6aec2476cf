"""Taking entries out of the cache: never what somebody needs, nor what a kept entry is built upon."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from engine.cache.disk_space import free_bytes
from engine.cache.holds import removal_lock
from engine.cache.needs import Keeper, Needs, dependents, find_needs, name_of
from engine.cache.store import Entry, Store
from engine.errors import EngineError
from engine.state.trees import disk_usage, remove_tree

SHARE = 3  # without a setting the cache takes at most one in so many bytes of what is free and its own


@dataclass(frozen=True)
class Wanted:
    """Which entries are to go, of those that nothing needs.

    `unused`: those that no project's last build has, and those that are useless. `before`: only what was used last
    before that time. `size`: the least recently used ones, until the cache takes no more bytes than that.
    """

    unused: bool = False
    every: bool = False
    before: datetime | None = None
    size: int | None = None


@dataclass(frozen=True)
class Removed:
    """What was removed, or would be; `size` is what is left, in bytes."""

    entries: tuple[Entry, ...]
    left: int

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.entries)


def prune(store: Store, wanted: Wanted, *, dry_run: bool = False) -> Removed:
    """Remove what is wanted. May run beside builds: they lose nothing. Raises EngineError."""
    asides: list[Path] = []
    with removal_lock(store.layout):
        entries = store.entries()
        chosen = choose(store, entries, find_needs(store, entries), wanted)
        if not dry_run:
            chosen, asides = _take(store, chosen)
    for aside in asides:
        remove_tree(aside)
    if not dry_run:
        store.sweep()
    gone = {name_of(entry) for entry in chosen}
    return Removed(tuple(chosen), sum(entry.size for entry in entries if name_of(entry) not in gone))


def choose(store: Store, entries: Sequence[Entry], needs: Needs, wanted: Wanted) -> list[Entry]:
    """The entries that go, each before those that it was built upon. Those used last are the last to go."""
    left = {name_of(entry): entry for entry in entries}
    above = {name: {name_of(child) for child in children} for name, children in dependents(entries).items()}
    with store.one_look():
        useless = {name_of(entry) for entry in entries if not store.is_sound(entry)}
    chosen: list[Entry] = []

    def may_go(name: str) -> bool:
        return name not in needs.needed and not above.get(name, set()) & left.keys()

    def take_while(is_wanted: Callable[[Entry], bool], enough: Callable[[], bool] = lambda: False) -> None:
        while not enough():
            going = [entry for name, entry in left.items() if may_go(name) and is_wanted(entry)]
            if not going:
                return
            oldest = min(going, key=lambda entry: (name_of(entry) not in useless, entry.last_used, name_of(entry)))
            chosen.append(left.pop(name_of(oldest)))

    if wanted.unused or wanted.every:
        take_while(
            lambda entry: (
                (wanted.every or name_of(entry) in useless or name_of(entry) not in needs.planned)
                and (wanted.before is None or entry.last_used < wanted.before)
            )
        )
    if wanted.size is not None:
        limit = wanted.size
        take_while(lambda entry: True, lambda: sum(entry.size for entry in left.values()) <= limit)
    return chosen


def remove_entries(store: Store, names: Iterable[str]) -> Removed:
    """Remove the entries called `names`, all or none. Raises EngineError for one that is needed or built upon."""
    names = set(names)
    with removal_lock(store.layout):
        entries = store.entries()
        by_name = {name_of(entry): entry for entry in entries}
        needs, above = find_needs(store, entries), dependents(entries)
        for name in sorted(names):
            keepers = [*needs.needed.get(name, ())]
            keepers += [
                Keeper("entry", name_of(child), child.title)
                for child in above.get(name, ())
                if name_of(child) not in names
            ]
            if keepers:
                raise EngineError(
                    f"{name[: name.find('/') + 9]} is needed: nothing was removed",
                    details="\n".join(dict.fromkeys(map(describe, keepers))),
                    hint="`sandbox down` a sandbox that needs it, or name what is built upon it, too",
                )
        ordered = _children_first([by_name[name] for name in names if name in by_name])
        chosen, asides = _take(store, ordered)
    for aside in asides:
        remove_tree(aside)
    gone = {name_of(entry) for entry in chosen}
    return Removed(tuple(chosen), sum(entry.size for entry in entries if name_of(entry) not in gone))


def default_limit(store: Store) -> int:
    """A third of what is free on the disk and what the cache takes of it, in bytes."""
    taken = sum(entry.size for entry in store.entries())
    return (free_bytes(store.layout.cache) + taken) // SHARE


def describe(keeper: Keeper) -> str:
    """A keeper in a few words, such as `sandbox shop (running)`."""
    more = f" ({keeper.more})" if keeper.more else ""
    name = f"{keeper.name[: keeper.name.find('/') + 9]}" if keeper.by == "entry" else keeper.name
    return f"{keeper.by} {name}{more}"


def _take(store: Store, chosen: Iterable[Entry]) -> tuple[list[Entry], list[Path]]:
    """Move the entries aside. One that is being built again just now stays, and with it what it was built upon."""
    taken, asides, kept = [], [], set[str]()
    for entry in chosen:
        name = name_of(entry)
        if name in kept:
            kept.update(entry.parents)
            continue
        try:
            aside = store.set_aside(entry.kind, entry.key)
        except EngineError:
            kept.update(entry.parents)
            continue
        except OSError as error:
            raise EngineError(f"{name} could not be removed: {error.strerror}") from error
        if aside is not None:
            taken.append(entry)
            asides.append(aside)
    return taken, asides


def _children_first(entries: list[Entry]) -> list[Entry]:
    left, ordered = {name_of(entry): entry for entry in entries}, []
    while left:
        built_upon = {name for entry in left.values() for name in entry.parents}
        free = [name for name in left if name not in built_upon] or list(left)
        ordered += [left.pop(name) for name in sorted(free)]
    return ordered


def measured(entry: Entry) -> int:
    """The bytes that the entry takes on the disk now."""
    with contextlib.suppress(OSError):
        return disk_usage(entry.path)
    return entry.size
