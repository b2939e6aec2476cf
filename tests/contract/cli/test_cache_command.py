"""`sandbox cache` as its user meets it: columns, JSON, refusals, exit codes; and how large the cache may get."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from cli_world import CommandLine

from engine.cache.store import Store
from engine.errors import EngineError
from engine.lifecycle.preparation import Limit
from engine.state.layout import Layout
from sandboxfile import SandboxfileError

BASE, TOP = "aa" * 16, "bb" * 16


@pytest.fixture
def store(layout: Layout) -> Store:
    store = Store(layout)

    async def fill(kind: str, key: str, title: str, parents: tuple[tuple[str, str], ...] = ()) -> None:
        async with store.build(kind, key, on_wait=pytest.fail, parents=parents, title=title) as build:
            assert build is not None
            (build.directory / "bytes").write_bytes(os.urandom(1 << 20))

    asyncio.run(fill("image", BASE, "Debian guest image"))
    asyncio.run(fill("setup", TOP, "npm ci", (("image", BASE),)))
    return store


class Notes:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_an_empty_cache_says_what_fills_it(sandbox: CommandLine) -> None:
    ran = sandbox("cache", "ls")
    assert (ran.code, ran.out) == (0, "") and "`sandbox build` fills it" in ran.err
    assert json.loads(sandbox("cache", "ls", "--json").out) == []


@pytest.mark.usefixtures("store")
def test_the_list(sandbox: CommandLine) -> None:
    head, *rows, total = sandbox("cache", "ls").out.splitlines()
    assert head.split() == ["ID", "KIND", "SIZE", "AGE", "LAST", "USE", "FOR", "KEPT", "BY"]
    lines = {row.split()[0]: row for row in rows}
    assert "image" in lines[BASE[:12]] and lines[BASE[:12]].endswith("Debian guest image  1 built upon it")
    assert "snapshot" in lines[TOP[:12]] and lines[TOP[:12]].endswith("setup: npm ci       -")
    assert total.startswith("2 entries, 2.0 MiB")
    (row,) = (row for row in json.loads(sandbox("cache", "ls", "--json").out) if row["key"] == BASE)
    assert row["kept_by"] == [{"by": "entry", "name": f"setup/{TOP}", "more": "setup: npm ci"}]
    assert {"size", "last_used", "created", "build_seconds", "damage", "useless", "path", "kind"} <= row.keys()


def test_prune_and_remove(sandbox: CommandLine, store: Store) -> None:
    ran = sandbox("cache", "prune", "--dry-run", "--json")
    plan = json.loads(ran.out)
    assert [row["key"] for row in plan["removed"]] == [TOP, BASE] and plan["dry_run"] and plan["left"] == 0
    assert sandbox("cache", "prune", "--older-than", "7d").err.startswith("0 entries removed")
    refused = sandbox("cache", "rm", BASE[:8])
    assert refused.code == 1 and "is needed: nothing was removed" in refused.err and "setup/bbbbbbbb" in refused.err
    assert sandbox("cache", "prune", "--size", "1500KiB").out.startswith(TOP[:12])
    ran = sandbox("cache", "rm", BASE[:8])
    assert ran.code == 0 and "1 entries removed, 1.0 MiB; 0 B left" in ran.err
    assert store.entries() == []


def test_verify(sandbox: CommandLine, store: Store) -> None:
    assert sandbox("cache", "verify").code == 0
    path = store.layout.entry("setup", TOP) / "bytes"
    status = path.stat()
    path.write_bytes(bytes(1 << 20))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    ran = sandbox("cache", "verify", "--json")
    damages = {row["key"]: row["damage"] for row in json.loads(ran.out)}
    assert ran.code == 1 and damages == {BASE: None, TOP: "bytes has other bytes than it was made with"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("prune", "--size", "20GB"), "write 20GiB"),
        (("prune", "--older-than", "soon"), "such as 30m or 8h"),
        (("rm",), "Missing argument"),
        (("rm", "ffffffff"), "no entry of the cache is called 'ffffffff'"),
        (("rm", "../../x"), "no entry of the cache is called"),
    ],
)
@pytest.mark.usefixtures("store")
def test_what_is_no_request(sandbox: CommandLine, argv: tuple[str, ...], words: str) -> None:
    ran = sandbox("cache", *argv)
    assert ran.code == 2 and words in ran.err


# --- how large it may get


def configure(layout: Layout, text: str) -> None:
    layout.config.mkdir(exist_ok=True)
    (layout.config / "config.yaml").write_text(text)


def test_where_the_size_is_said(store: Store, layout: Layout) -> None:
    def limit(**environment: str) -> int | None:
        return Limit.chosen(layout, environment).bytes(store)

    assert (limit() or 0) > 10**6, "a third of what there is for it"
    configure(layout, "cache_size: 2GiB\ndetach_keys: ctrl-p\n")
    assert limit() == 2 << 30
    assert limit(SANDBOX_CACHE_SIZE="1GiB") == 1 << 30
    assert limit(SANDBOX_CACHE_SIZE="none") is None
    configure(layout, "cache_size: none\n")
    assert limit() is None


def test_what_is_no_size(layout: Layout) -> None:
    with pytest.raises(EngineError, match="SANDBOX_CACHE_SIZE: '2GB' has a unit of two meanings"):
        Limit.chosen(layout, {"SANDBOX_CACHE_SIZE": "2GB"})
    for text in ("cache_size: much\n", "cache_size: 20\n", "cache_sise: 2GiB\n"):
        configure(layout, text)
        with pytest.raises(SandboxfileError):
            Limit.chosen(layout, {})


def test_a_build_keeps_the_cache_within_its_size_with_one_line(store: Store, layout: Layout) -> None:
    said = Notes()
    Limit(10 << 20).keep(store, said)  # type: ignore[arg-type]
    assert said.notes == [] and len(store.entries()) == 2
    Limit(3 << 19).keep(store, said)  # type: ignore[arg-type]
    (note,) = said.notes
    assert note.startswith("the cache may take 1.5 MiB: 1 entries used least recently were removed (1.0 MiB;")
    assert [entry.key for entry in store.entries()] == [BASE]


def test_projects_are_named(sandbox: CommandLine, store: Store, layout: Layout, tmp_path: Path) -> None:
    from engine.files import write_json

    nodes = {"setup[0]": {"key": TOP, "inputs": {}}}
    record = {"version": 1, "project": str(sandbox.project), "nodes": nodes}
    write_json(layout.project_plan(sandbox.project), record)
    _, *rows, _ = sandbox("cache", "ls").out.splitlines()
    assert all(row.endswith("  project") for row in rows)
    assert sandbox("cache", "prune").err.startswith("0 entries removed")
