"""A snapshot that was cut, overwritten or changed by the disk itself: said, built again, and the guest answers."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from world import World

UP = ("up", "-d", "--yes", "--progress", "plain")


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(64))


def flip(path: Path) -> None:
    """As a failing disk does: the file system knows of no change."""
    status = path.stat()
    overwrite(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.timeout(2400)
def test_damaged_snapshots_are_found_said_and_built_again(world: World) -> None:
    step = f"echo {uuid.uuid4()} | sudo tee /etc/step"
    project = world.project(f"name: damaged\nsetup: [{step!r}]\n")
    built = json.loads(world.sandbox("build", "--yes", "--json", cwd=project, timeout_s=1800).ok().out)
    assert not world.listed(project) and built["nodes"][-1] == {"id": "setup[0]", "action": "built"}
    snapshot = Path(built["snapshot"])
    key = snapshot.name

    def up() -> str:
        ran = world.sandbox(*UP, cwd=project, timeout_s=600).ok()
        assert world.run(project, "cat /etc/step").ok().out.strip() in step
        return ran.err

    assert "saving a snapshot" not in up(), "the next `up` is a warm one"
    kept = {row["key"]: row["kept_by"] for row in json.loads(world.sandbox("cache", "ls", "--json", cwd=project).out)}
    assert {"by": "sandbox", "name": "damaged", "more": "running"} in kept[key]
    refused = world.sandbox("cache", "rm", key, cwd=project)
    assert refused.code == 1 and "sandbox damaged (running)" in refused.err
    world.sandbox("down", cwd=project).ok()
    cases: list[tuple[str, Callable[[Path], None], str]] = [
        ("ram", shorten, "build: cache entry is damaged: ram is shorter than it was made"),
        ("disk.qcow2", Path.unlink, "build: cache entry is damaged: disk.qcow2 is missing"),
        # Nobody sees this before QEMU does.
        ("state", flip, "damaged in the cache, and built again"),
    ]
    for name, damage, words in cases:
        damage(snapshot / name)
        said = up()
        assert words in said and "saving a snapshot" in said, said
        world.sandbox("down", cwd=project).ok()
    assert world.sandbox("cache", "verify", key, cwd=project).code == 0
    assert world.sandbox("cache", "rm", key, cwd=project).ok()
    assert not snapshot.exists()
