"""Pruning takes what nothing needs, the least recently used first, and never what a sandbox, a build or a kept entry
stands on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from disk_headers import FORMAT, qcow2

from engine.cache import pruning
from engine.cache.holds import held_entries, hold_entries, known_states
from engine.cache.needs import Keeper, find_needs
from engine.cache.pruning import Removed, Wanted, prune, remove_entries
from engine.cache.store import Store
from engine.errors import EngineError
from engine.files import write_json
from engine.lifecycle.cached import chosen_entries, list_cached
from engine.state.layout import Layout
from vmm.errors import VmmError
from vmm.qcow2 import Backing, read_backing

BASE, MIDDLE, TOP, OTHER = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)
UNUSED = Wanted(unused=True)
HOLDER = """
import os, sys
from engine.cache.holds import hold_entries
from engine.state.layout import Layout

with hold_entries(Layout.from_environment(os.environ)) as hold:
    hold.add(sys.argv[1:])
    print("held", flush=True)
    sys.stdin.read()
"""
PRUNER = """
import os, signal
from engine.cache import pruning
from engine.cache.store import Store
from engine.state.layout import Layout

def stand_still(path):
    print(path.name, flush=True)
    signal.pause()

pruning.remove_tree = stand_still
pruning.prune(Store(Layout.from_environment(os.environ)), pruning.Wanted(unused=True))
"""


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


@pytest.fixture
def store(layout: Layout) -> Store:
    """A chain of three disks, and one entry beside it; the later ones were used later."""
    store = Store(layout)
    for days, (key, parent) in zip(
        (9, 8, 7, 6), ((BASE, None), (MIDDLE, BASE), (TOP, MIDDLE), (OTHER, None)), strict=True
    ):
        build(store, key, parent)
        use(store, key, days)
    return store


def build(store: Store, key: str, parent: str | None = None) -> None:
    async def fill() -> None:
        parents = [("setup", parent)] if parent else []
        async with store.build("setup", key, on_wait=pytest.fail, parents=parents, title=key[0]) as made:
            assert made is not None
            (made.directory / "disk.qcow2").write_bytes(qcow2(f"../../setup/{parent}/disk.qcow2" if parent else None))
            (made.directory / "bytes").write_bytes(os.urandom(100_000))

    asyncio.run(fill())


def use(store: Store, key: str, days: int) -> None:
    then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    os.utime(store.layout.entry_marker(store.layout.entry("setup", key)), (then, then))


def sandbox(layout: Layout, name: str, key: str) -> None:
    """A sandbox whose disk is backed by the entry; nothing of it runs."""
    disk = layout.instance(name).disk
    disk.parent.mkdir(parents=True)
    disk.write_bytes(qcow2(str((layout.entry("setup", key) / "disk.qcow2").resolve())))


def keys(removed: Removed) -> str:
    return "".join(entry.key[0] for entry in removed.entries)


def left(store: Store) -> str:
    return "".join(entry.key[0] for entry in store.entries())


def test_what_nothing_uses_goes_children_first(store: Store) -> None:
    dry = prune(store, UNUSED, dry_run=True)
    assert keys(dry) == "cbad" and left(store) == "abcd"
    assert keys(prune(store, UNUSED)) == "cbad"
    assert left(store) == "" and list(store.layout.temporary.glob("*")) == []


def test_only_what_is_older(store: Store) -> None:
    wanted = Wanted(unused=True, before=datetime.now(UTC) - timedelta(days=6, hours=12))
    assert keys(prune(store, wanted)) == "cba"


def test_nothing_goes_below_a_younger_entry(store: Store) -> None:
    use(store, TOP, 0)
    wanted = Wanted(unused=True, before=datetime.now(UTC) - timedelta(days=1))
    assert keys(prune(store, wanted)) == "d" and left(store) == "abc"


@pytest.mark.parametrize("wanted", [UNUSED, Wanted(every=True), Wanted(size=0)])
def test_a_sandbox_keeps_the_whole_chain_below_its_disk(store: Store, layout: Layout, wanted: Wanted) -> None:
    sandbox(layout, "shop", MIDDLE)
    assert keys(prune(store, wanted)) == "cd" and left(store) == "ab"


def test_a_sandbox_of_another_state_directory_counts_too(store: Store, layout: Layout, tmp_path: Path) -> None:
    """Those who share a cache have noted their state directories in it."""
    elsewhere = layout._replace(state=tmp_path / "elsewhere")
    elsewhere.state.mkdir()
    with hold_entries(elsewhere):
        pass
    sandbox(elsewhere, "shop", TOP)
    assert known_states(layout) == [layout.state, elsewhere.state]
    assert keys(prune(store, Wanted(every=True))) == "d"
    for path in sorted(elsewhere.state.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    elsewhere.state.rmdir()
    assert known_states(layout) == [layout.state]
    assert keys(prune(store, Wanted(every=True))) == "cba"


def test_the_last_build_of_a_project_keeps_its_entries_unless_all_go(
    store: Store, layout: Layout, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    nodes = {"setup[0]": {"key": MIDDLE, "inputs": {}}}
    write_json(layout.project_plan(project), {"version": 1, "project": str(project), "nodes": nodes})
    assert keys(prune(store, UNUSED, dry_run=True)) == "cd"
    assert keys(prune(store, Wanted(every=True), dry_run=True)) == "cbad"
    needs = find_needs(store, store.entries())
    assert needs.planned[f"setup/{BASE}"] == [Keeper("project", str(project))]
    project.rmdir()
    assert keys(prune(store, UNUSED)) == "cbad", "a project that is gone keeps nothing"


def test_a_size_takes_the_least_recently_used_first(store: Store) -> None:
    use(store, OTHER, 20)
    one = store.entries()[0].size
    assert keys(prune(store, Wanted(size=3 * one))) == "d"
    assert keys(prune(store, Wanted(size=2 * one))) == "c", "never the one below a kept entry, though it is the oldest"
    assert keys(prune(store, Wanted(size=2 * one))) == ""


def test_what_a_process_holds_stays_until_it_ends(store: Store, layout: Layout) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"setup/{MIDDLE}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        assert held_entries(layout) == {f"setup/{MIDDLE}": [process.pid]}
        assert keys(prune(store, Wanted(size=0))) == "cd"
        with pytest.raises(EngineError, match="is needed: nothing was removed"):
            remove_entries(store, [f"setup/{MIDDLE}"])
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert keys(prune(store, Wanted(size=0))) == "ba", "the hold of a killed process is none"
    assert layout.holds() == []


def test_a_build_that_runs_keeps_its_own(store: Store) -> None:
    """Its directory and its place are locked; its parents are held by whoever builds (test_scheduler)."""

    async def scenario() -> None:
        async with store.build("setup", "e" * 32, on_wait=pytest.fail) as made:
            assert made is not None
            (made.directory / "half").write_text("half")
            prune(store, UNUSED)
            assert (made.directory / "half").read_text() == "half"

    asyncio.run(scenario())
    assert left(store) == "e"


def test_a_killed_prune_leaves_nothing_half(store: Store, layout: Layout) -> None:
    process = subprocess.Popen([sys.executable, "-c", PRUNER], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline().startswith(b"setup-")
    process.kill()
    process.communicate()
    assert left(store) == "" and len(list(layout.temporary.glob("*"))) == 4, "whole or gone"
    assert store.sweep() == 4 and list(layout.temporary.glob("*")) == []


def test_useless_and_damaged_entries_go_though_a_project_has_them(store: Store, layout: Layout, tmp_path: Path) -> None:
    nodes = {"setup[0]": {"key": TOP, "inputs": {}}}
    write_json(layout.project_plan(tmp_path), {"version": 1, "project": str(tmp_path), "nodes": nodes})
    assert store.remove("setup", BASE)
    build(store, BASE)
    assert keys(prune(store, UNUSED)) == "cbd" and left(store) == "a"


def test_removing_by_name_is_all_or_nothing(store: Store, layout: Layout) -> None:
    with pytest.raises(EngineError, match="is needed") as caught:
        remove_entries(store, [f"setup/{MIDDLE}", f"setup/{OTHER}"])
    assert caught.value.details == f"entry setup/{TOP[:8]} (c)" and left(store) == "abcd"
    assert keys(remove_entries(store, [f"setup/{MIDDLE}", f"setup/{TOP}"])) == "cb"
    sandbox(layout, "shop", BASE)
    with pytest.raises(EngineError) as caught:
        remove_entries(store, [f"setup/{BASE}"])
    assert caught.value.details == "sandbox shop (stopped)" and left(store) == "ad"


def test_a_word_means_one_entry(store: Store) -> None:
    assert [entry.key for entry in chosen_entries(store, ["aaaa", "setup/dddd"])] == [BASE, OTHER]
    build(store, "aaab" + "0" * 28)
    for word, why in (("aaa", "no entry"), ("ffff", "no entry"), ("image/aaaa", "no entry"), ("", "no entry")):
        with pytest.raises(EngineError, match=why):
            chosen_entries(store, [word])
    build(store, "aaaaa" + "1" * 27)
    with pytest.raises(EngineError, match="fits several entries"):
        chosen_entries(store, ["aaaa"])


def test_what_is_listed(store: Store, layout: Layout) -> None:
    sandbox(layout, "shop", MIDDLE)
    with (layout.entry("setup", OTHER) / "bytes").open("r+b") as file:
        file.truncate(10)
    rows = {one.entry.key[0]: one.to_json() for one in list_cached(store)}
    assert rows["a"]["kept_by"] == [
        {"by": "sandbox", "name": "shop", "more": "stopped"},
        {"by": "entry", "name": f"setup/{MIDDLE}", "more": "setup: b"},
    ]
    assert rows["c"]["kept_by"] == [] and rows["c"]["purpose"] == "setup: c" and rows["c"]["kind"] == "snapshot"
    assert rows["d"]["damage"] == "bytes is shorter than it was made"
    assert json.dumps(rows)


def test_sizes_are_those_on_the_disk(store: Store) -> None:
    path = store.layout.entry("setup", OTHER)
    with (path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    (row,) = (one for one in list_cached(store) if one.entry.key == OTHER)
    assert 100_000 < row.size < 200_000


def test_the_default_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = sum(entry.size for entry in store.entries())
    monkeypatch.setattr(pruning, "free_bytes", lambda directory: 3 * 10**9 - taken)
    assert pruning.default_limit(store) == 10**9


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "disk.qcow2"


def test_the_backing_file_of_a_disk(disk: Path) -> None:
    disk.write_bytes(qcow2("../x/disk.raw", "raw"))
    assert read_backing(disk) == Backing("../x/disk.raw", "raw")
    disk.write_bytes(qcow2(None))
    assert read_backing(disk) is None
    disk.write_bytes(qcow2("../x/disk.raw", "raw", (0x12345678, b"more")))
    assert read_backing(disk) == Backing("../x/disk.raw", "raw", more=True)
    for bad in (b"", b"QFI\xfb", b"raw" * 100, qcow2("x")[:-1], qcow2("x", "raw", (FORMAT, b"qcow2"))):
        disk.write_bytes(bad)
        with pytest.raises(VmmError):
            read_backing(disk)
