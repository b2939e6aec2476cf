"""A project's snapshots on another machine: exported here, imported into an empty cache, and `up` builds nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from world import World

from engine.build.foundation import tool_nodes
from engine.state.layout import Layout

FILE = "name: carried\nmounts: ['.:/workspace:ro']\n"


def test_up_from_an_imported_cache_builds_nothing(world: World, tmp_path: Path) -> None:
    project = world.project(FILE)
    world.sandbox("build", "--yes", cwd=project, timeout_s=1800).ok()
    bundle = tmp_path / "carried.bundle"
    told = json.loads(world.sandbox("cache", "export", str(bundle), "--json", cwd=project, timeout_s=900).ok().out)
    assert told["bytes"] == bundle.stat().st_size and {"image", "disk", "booted"} <= kinds(told)
    again = world.sandbox("cache", "export", str(bundle), cwd=project)
    assert again.code == 2 and "--force overwrites it" in again.err

    here = Layout.from_environment(os.environ)
    there = here._replace(cache=tmp_path / "there")
    there.prepare()
    _share_tools(here, there)
    other = {"SANDBOX_CACHE_DIR": str(there.cache)}
    try:
        _arrives(world, project, bundle, other)
    finally:
        bundle.unlink(missing_ok=True)
        world.sandbox("down", "--yes", cwd=project, **other)
        world.sandbox("cache", "prune", "--all", cwd=project, **other)


def _arrives(world: World, project: Path, bundle: Path, other: dict[str, str]) -> None:
    with bundle.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        tail = file.read()
        file.seek(-1000, os.SEEK_END)
        file.truncate()
    cut = world.sandbox("cache", "import", str(bundle), cwd=project, timeout_s=900, **other)
    assert cut.code == 1 and "cut short" in cut.err, cut.err
    left = json.loads(world.sandbox("cache", "ls", "--json", cwd=project, **other).ok().out)
    assert {row["kind"] for row in left} == {"tools", "probe"}, "nothing of it is left"
    with bundle.open("ab") as file:
        file.write(tail)
    brought = world.sandbox("cache", "import", str(bundle), cwd=project, timeout_s=900, **other).ok()
    assert "importing is trust in who made the file" in brought.err and "entries imported" in brought.out
    bundle.unlink()
    built = json.loads(world.sandbox("build", "--yes", "--json", cwd=project, timeout_s=900, **other).ok().out)
    assert built["built"] == 0, built
    world.sandbox("up", "-d", "--yes", "--progress", "plain", cwd=project, timeout_s=900, **other).ok()
    assert world.sandbox("exec", "--", "hostname", cwd=project, **other).ok().out == "carried\n"


def kinds(told: dict[str, dict[str, str]]) -> set[str]:
    return {name.split("/")[0] for name in told["entries"]}


def _share_tools(here: Layout, there: Layout) -> None:
    """The other machine has made its tools ready before. They are thousands of files: links do."""
    for node in tool_nodes():
        source, target = here.entry(node.kind, node.key), there.entry(node.kind, node.key)
        shutil.copytree(source, target, symlinks=True, copy_function=os.link)
