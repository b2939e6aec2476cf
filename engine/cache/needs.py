"""What keeps an entry of the cache: sandboxes, running builds, plans of projects, and entries that build upon it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.cache.holds import held_entries, known_states
from engine.cache.store import Entry, Store
from engine.errors import EngineError
from engine.files import names_in, read_json
from engine.scarcity import is_scarcity, raise_if_scarce
from engine.state.instances import look_up
from engine.state.layout import Layout
from vmm.errors import VmmError
from vmm.qcow2 import read_backing

By = Literal["sandbox", "process", "project", "entry"]
ENDED = ("dead", "failed", "unreadable")  # how a sandbox is that nothing starts again from its disk
MOST_LAYERS = 64  # disks below a disk of a sandbox


@dataclass(frozen=True)
class Keeper:
    """What keeps an entry: `name` is that of a sandbox, the number of a process, a project's directory, or an entry's
    kind/key. `more` says more about it, such as the sandbox's status."""

    by: By
    name: str
    more: str = ""


@dataclass
class Needs:
    """The keepers of the entries, by name ("kind/key").

    `needed` are kept by sandboxes and processes: nothing removes those. `planned` were part of the last build of a
    project that is still there. Both have the entries' ancestors in them.
    """

    needed: dict[str, list[Keeper]] = field(default_factory=dict)
    planned: dict[str, list[Keeper]] = field(default_factory=dict)


def name_of(entry: Entry) -> str:
    return f"{entry.kind}/{entry.key}"


def find_needs(store: Store, entries: Iterable[Entry]) -> Needs:
    """Look at sandboxes, processes and plans. Reads only. Raises OSError where there is too little to look."""
    layout, needs = store.layout, Needs()
    by_name = {name_of(entry): entry for entry in entries}
    for state in known_states(layout):
        there = layout._replace(state=state)
        for keeper, disk in _disks(there):
            for name in _below(layout, disk):
                _keep(needs.needed, name, keeper, by_name)
        for keeper, keys in _plans(there):
            for name, entry in by_name.items():
                if entry.key in keys:
                    _keep(needs.planned, name, keeper, by_name)
    for name, pids in held_entries(layout).items():
        for pid in pids:
            _keep(needs.needed, name, Keeper("process", str(pid), "builds or starts with it"), by_name)
    return needs


def disks_upon(layout: Layout) -> dict[str, list[Keeper]]:
    """The sandboxes whose disks are backed by an entry's disk, by the entry's name, unless they ended for good."""
    found: dict[str, list[Keeper]] = {}
    for state in known_states(layout):
        for keeper, disk in _disks(layout._replace(state=state)):
            if keeper.more not in ENDED:
                for name in _below(layout, disk):
                    found.setdefault(name, []).append(keeper)
    return found


def dependents(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The entries that were built upon an entry, by its name; whether that is still the build that they need or not."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        for name in entry.parents:
            found.setdefault(name, []).append(entry)
    return found


def _keep(kept: dict[str, list[Keeper]], name: str, keeper: Keeper, entries: Mapping[str, Entry]) -> None:
    """`keeper` keeps the entry and everything that it was built upon."""
    waiting = [name]
    while waiting:
        each = waiting.pop()
        keepers = kept.setdefault(each, [])
        if keeper not in keepers:
            keepers.append(keeper)
            if each in entries:
                waiting += entries[each].parents


def _disks(layout: Layout) -> Iterator[tuple[Keeper, Path]]:
    """Every disk below the state directory, and whose it is. A sandbox's need not have a record: it may be starting."""
    for parent, _, names in os.walk(layout.state, onerror=raise_if_scarce):
        for name in names:
            if name.endswith(".qcow2"):
                yield _owner(layout, Path(parent)), Path(parent, name)


def _owner(layout: Layout, directory: Path) -> Keeper:
    if not directory.is_relative_to(layout.instances) or directory == layout.instances:
        return Keeper("sandbox", str(directory), "a disk that was kept")
    name = directory.relative_to(layout.instances).parts[0]
    try:
        return Keeper("sandbox", name, look_up(layout, name, lambda control: True).liveness)
    except EngineError:
        return Keeper("sandbox", name)


def _below(layout: Layout, disk: Path) -> Iterator[str]:
    """The entries that the disk is backed by, by name. A disk that cannot be read has none."""
    cache = layout.cache.resolve()
    for _ in range(MOST_LAYERS):
        try:
            backing = read_backing(disk)
        except (OSError, VmmError) as error:
            if is_scarcity(error):
                raise  # an entry that a disk lies upon would count as one that nothing needs
            return
        if backing is None:
            return
        disk = Path(os.path.normpath(disk.parent.resolve() / backing.name))
        if disk.is_relative_to(cache):
            kind, key, *_ = (*disk.relative_to(cache).parts, "", "")
            yield f"{kind}/{key}"
        if disk.suffix != ".qcow2":
            return


def _plans(layout: Layout) -> Iterator[tuple[Keeper, frozenset[str]]]:
    """What was built last for each project, as keys; not for projects that are gone."""
    projects = layout.state / "projects"
    found = (projects / each / name for each in names_in(projects) for name in names_in(projects / each))
    for path in (path for path in found if path.match("plan*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            record: dict[str, Any] = read_json(path)
            project = record.get("project")
            if project is not None and not Path(project).is_dir():
                continue
            agent = path.stem.removeprefix("plan").removeprefix("-")
            keys = frozenset(str(made["key"]) for made in record["nodes"].values())
            yield Keeper("project", project or f"unknown ({path.parent.name})", agent), keys
