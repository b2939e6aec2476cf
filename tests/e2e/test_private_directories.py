"""What a build and a sandbox leave on the real disk is the user's alone, also in a cache that was made open."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from world import World

PUBLIC = ("toolchain", "image", "initramfs", "accelerator")  # unpacked and packed software, with modes of its own


def open_to_others(*roots: Path) -> list[str]:
    """What of these, and in them, others could enter or read, if nothing above were closed."""
    found = []
    for path in (path for root in roots for path in (root, *root.rglob("*"))):
        seen = path.lstat()
        if not stat.S_ISLNK(seen.st_mode) and seen.st_mode & 0o077:
            found.append(f"{path} {stat.filemode(seen.st_mode)}")
    return found


def test_cache_state_and_runtime(world: World) -> None:
    cache, state, runtime = (Path(os.environ[f"SANDBOX_{root}_DIR"]) for root in ("CACHE", "STATE", "RUNTIME"))
    cache.chmod(0o755)  # as older versions left it
    before = os.umask(0o022)
    try:
        since = time.time()
        mark = os.urandom(8).hex()
        project = world.project(f"name: closed\nmounts: [.:/workspace]\nsetup: ['echo {mark}']\n")
        world.up(project)
        world.run(project, "umask 022; echo x > made; mkdir sub").ok()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(root.stat().st_mode) for root in (cache, state, runtime)] == [0o700] * 3
    assert open_to_others(state, runtime) == []
    made = [
        path for kind in cache.iterdir() if kind.name not in PUBLIC for path in kind.glob("*/") if path.name != "tmp"
    ]
    new = [entry for entry in made if entry.stat().st_mtime >= since]
    assert cache / "setup" in [entry.parent for entry in new]
    assert open_to_others(*new) == []
    # The guest's files in the workspace have the modes that the guest gave them.
    assert stat.S_IMODE((project / "made").stat().st_mode) == 0o644
    assert stat.S_IMODE((project / "sub").stat().st_mode) == 0o755
