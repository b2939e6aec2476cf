"""Disks of this host that are full while a sandbox runs: the user is told why, nothing is lost, and it goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from small_disk import SmallDisk, mount_small_disk
from world import Ran, World, wait_until

pytestmark = pytest.mark.timeout(300)
FILE = """
name: fuller
mounts:
  - {source: ., target: /workspace, limit: 8MiB}
"""
FILL = "dd if=/dev/zero of=/home/agent/big bs=1M count=120 conv=fsync && echo written"


def test_a_limit_and_a_full_disk_are_told_and_the_machine_goes_on(world: World, tmp_path: Path) -> None:
    project = world.project(FILE)
    with mount_small_disk(tmp_path / "small", 60) as disk:
        state = {"SANDBOX_CACHE_DIR": os.environ["SANDBOX_CACHE_DIR"], "SANDBOX_STATE_DIR": str(disk.path)}

        def sandbox(*argv: str) -> Ran:
            return disk.sandbox(world, *argv, cwd=project, **state)

        def troubles() -> Any:
            return json.loads(sandbox("ls", "--json").ok().out)[0]["troubles"]

        sandbox("up", "-d", "--yes", "--progress", "plain").ok()
        try:
            live_mount(project, sandbox)
            wait_until(troubles, lambda found: found == [], "the mount takes files again")
            machines_disk(disk, world, project, state, troubles)
            assert sandbox("exec", "--", "stat", "-c", "%s", "/home/agent/big").ok().out.strip() == str(120 << 20)
            assert "no longer: the machine stands still" in sandbox("journal").ok().out
        finally:
            disk.resize(600)
            sandbox("down").ok()


def live_mount(project: Path, sandbox: Any) -> None:
    """The guest gets ENOSPC at the limit, the user a line; removing gives the room back."""
    written = sandbox("exec", "--", "dd", "if=/dev/zero", "of=/workspace/big", "bs=1M", "count=20")
    assert written.code == 1 and "No space left on device" in written.out
    assert 6 << 20 <= (project / "big").stat().st_size <= 8 << 20
    line = "fuller: /workspace takes no more: the machine has added its limit of 8.0 MiB"
    wait_until(lambda: sandbox("ls").ok().out, lambda text: line in text, "ls says that the mount is full")
    sandbox("exec", "--", "sh", "-c", "rm /workspace/big && echo some > /workspace/small").ok()
    assert (project / "small").read_text() == "some\n"


def machines_disk(disk: SmallDisk, world: World, project: Path, state: dict[str, str], troubles: Any) -> None:
    """The command that does not fit waits with its machine, and ends well when there is room."""
    writing = disk.start(world, "exec", "--", "sh", "-c", FILL, cwd=project, **state)
    (said,) = wait_until(troubles, len, "ls says that the machine stands still")
    assert said == (
        f"the machine stands still until 64.0 MiB are free in {disk.path}/instances/fuller: its disk has no room"
    )
    assert disk.free() < 1 << 20
    disk.resize(600)
    out, _ = writing.communicate(timeout=120)
    assert writing.returncode == 0 and b"written" in out, out
    wait_until(troubles, lambda found: found == [], "the machine goes on")
