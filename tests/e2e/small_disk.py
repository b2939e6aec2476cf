"""A disk of a chosen size: a tmpfs in a mount namespace of its own, which the commands under test join."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from world import Ran, World

READY_S = 20
MOUNT = """
set -e
mount -t tmpfs -o "size=$1,mode=755" tmpfs "$2"
disk=$2
shift 2
for entry; do
    mkdir -p "$disk/${entry#*//}"
    mount --rbind "${entry%%//*}/${entry#*//}" "$disk/${entry#*//}"
done
echo ready
read end
"""


@dataclass(frozen=True)
class SmallDisk:
    """Mounted at `path` for those who start with `prefix`; `seen` is the same place for everybody else."""

    path: Path
    seen: Path
    prefix: tuple[str, ...]

    def free(self) -> int:
        return shutil.disk_usage(self.seen).free

    def resize(self, megabytes: int) -> None:
        self._remount(megabytes << 20)

    def leave(self, megabytes: int) -> None:
        """Make the disk so small that only that much of it is still free."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self._remount(shutil.disk_usage(self.seen).used + (megabytes << 20))
                return
            except subprocess.CalledProcessError:  # somebody wrote more meanwhile than should have been left
                assert time.monotonic() < deadline

    def _remount(self, size: int) -> None:
        # Without the source, mount repeats the options it reads: an owner's number that this namespace does not know.
        argv = [*self.prefix, "mount", "-t", "tmpfs", "-o", f"remount,size={size}", "tmpfs", str(self.path)]
        subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=READY_S)

    def sandbox(self, world: World, *argv: str, cwd: Path, **env: str) -> Ran:
        """`World.sandbox` with its cache on this disk."""
        process = self.start(world, *argv, cwd=cwd, **env)
        began = time.monotonic()
        out, _ = process.communicate(timeout=300)
        return Ran(argv, process.returncode, out.decode(), "", time.monotonic() - began)

    def start(self, world: World, *argv: str, cwd: Path, **env: str) -> subprocess.Popen[bytes]:
        """`World.start` with its cache on this disk."""
        # Joining a mount namespace leads to its root directory: back to the project first.
        command = [*self.prefix, "env", "-C", str(cwd), sys.executable, "-m", "engine.cli.main", *argv]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SANDBOX_CACHE_DIR": str(self.path), **env},
        )
        world.started.append(process)
        return process


@contextlib.contextmanager
def mount_small_disk(path: Path, megabytes: int, shown: Sequence[tuple[Path, str]] = ()) -> Iterator[SmallDisk]:
    """A disk at `path` for the length of the block; skips the test where namespaces cannot be made.

    `shown` are (directory, name): what is there under another directory appears on the disk and takes no room of it.
    """
    path.mkdir()
    user = () if os.geteuid() == 0 else ("--user",)
    mapped = () if os.geteuid() == 0 else ("--map-root-user",)
    entries = [f"{directory}//{name}" for directory, name in shown]
    with subprocess.Popen(
        ["unshare", *user, *mapped, "--mount", "sh", "-c", MOUNT, "sh", f"{megabytes}m", str(path), *entries],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},  # it is no process of the world's
    ) as holder:
        assert holder.stdout is not None and holder.stderr is not None
        if holder.stdout.readline() != b"ready\n":
            pytest.skip(f"no small disk can be mounted here: {holder.stderr.read().decode().strip()}")
        keep = ("--preserve-credentials",) if user else ()
        prefix = ("nsenter", *user, "--mount", *keep, "--target", str(holder.pid))
        try:
            yield SmallDisk(path, Path(f"/proc/{holder.pid}/root{path}"), prefix)
        finally:
            holder.communicate(timeout=READY_S)  # the end of its input is the end of its `read`
