"""A download that breaks, a disk that gets full, a builder that is killed: a clear error, nothing half-made, and the
next run goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_mirror import BrokenMirror, Fault, start_broken_mirror
from small_disk import mount_small_disk
from world import Ran, World, wait_until

from engine.resolve.clients import RegistryError
from engine.resolve.debian import debian_mirrors

BASE = ("toolchain", "accelerator", "image", "initramfs", "disk", "booted")
FILE = "name: recovers\n"


@pytest.fixture(scope="module")
def shared_mirror() -> Iterator[BrokenMirror]:
    """One for all tests: it fetches each package once."""
    try:
        real = debian_mirrors()
    except RegistryError as error:
        pytest.skip(f"no Debian mirror: {error}")
    with start_broken_mirror(real) as mirror:
        yield mirror


@pytest.fixture
def mirror(shared_mirror: BrokenMirror, monkeypatch: pytest.MonkeyPatch) -> BrokenMirror:
    """Working, and what every command of the test fetches from."""
    monkeypatch.setenv("SANDBOX_DEBIAN_MIRROR", shared_mirror.variable("none"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return shared_mirror


@pytest.fixture
def users_cache() -> Path:
    return Path(os.environ["SANDBOX_CACHE_DIR"])


@pytest.fixture
def empty_cache(world: World, users_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What every command of the test uses instead of the user's."""
    cache = world.base / "cache"
    monkeypatch.setenv("SANDBOX_CACHE_DIR", str(cache))
    return cache


def entries(cache: Path, kind: str) -> list[str]:
    return sorted(path.name for path in (cache / kind).glob("*"))


def assert_failed_cleanly(failed: Ran, cache: Path, kind: str, world: World) -> None:
    """Exit code 1 and an error with a hint; nothing half-made, nothing running."""
    text = failed.out + failed.err
    assert failed.code == 1, text
    assert "error: " in text and "hint: " in text and "Traceback" not in text, text
    assert entries(cache, kind) == []
    assert entries(cache, "tmp") == []
    assert world.processes() == {}


def read_until(process: subprocess.Popen[bytes], words: str) -> str:
    """What the process printed up to a line with `words`."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line.decode())
        if words in seen[-1]:
            return "".join(seen)
    pytest.fail(f"{words!r} never came:\n{''.join(seen)}")


def finish(process: subprocess.Popen[bytes], seen: str = "") -> Ran:
    """Wait for its end; `seen` is what was read of it before."""
    rest, _ = process.communicate(timeout=120)
    return Ran(tuple(map(str, process.args)), process.returncode, seen + rest.decode(), "", 0)  # type: ignore[arg-type]


# --- downloads


def test_broken_downloads_are_told_and_the_next_run_recovers(world: World, mirror: BrokenMirror) -> None:
    """All at once, each in a cache of its own: apt takes its time between one try and the next."""
    hints: dict[Fault, str] = {
        "cut": "cut or changed on its way",
        "flipped": "cut or changed on its way",
        "unavailable": "answered with an error",
    }
    running = {
        fault: world.start(
            "doctor",
            cwd=world.base,
            SANDBOX_DEBIAN_MIRROR=mirror.variable(fault),
            SANDBOX_CACHE_DIR=str(world.base / fault),
        )
        for fault in hints
    }
    failed = {fault: finish(process) for fault, process in running.items()}
    for fault, hint in hints.items():
        assert_failed_cleanly(failed[fault], world.base / fault, "toolchain", world)
        text = failed[fault].out
        assert "the packages could not be downloaded" in text
        # Which of them is in apt's own words.
        struck = [name.split("_")[0] for struck_by, name in mirror.struck if struck_by == fault]
        assert any(f"/{name}_" in text for name in struck), (struck, text)
        assert hint in text.partition("hint: ")[2], text
    cache = world.base / "cut"
    world.sandbox("doctor", cwd=world.base, SANDBOX_CACHE_DIR=str(cache)).ok()
    assert len(entries(cache, "toolchain")) == 1
    assert entries(cache, "tmp") == []


# --- full disks


def test_a_disk_that_is_or_gets_full_while_tools_are_made(world: World, mirror: BrokenMirror, tmp_path: Path) -> None:
    """Found before anything is fetched, by apt, and by the program that unpacks: the last two only print it."""
    with mount_small_disk(tmp_path / "small", 60) as disk:

        def assert_told(failed: Ran) -> None:
            assert_failed_cleanly(failed, disk.seen, "toolchain", world)
            assert f"no space left in {disk.path}" in failed.out and "SANDBOX_CACHE_DIR" in failed.out

        failed = disk.sandbox(world, "doctor", cwd=world.base)
        assert_told(failed)
        assert "the toolchain needs 700 MiB" in failed.out and "package lists" not in failed.out
        for moment, left in (("reading the package lists", 30), ("unpacking", 60)):
            disk.resize(800)
            process = disk.start(world, "doctor", cwd=world.base)
            seen = read_until(process, moment)
            disk.leave(left)
            assert_told(finish(process, seen))
        disk.resize(800)
        disk.sandbox(world, "doctor", cwd=world.base).ok()
        assert len(entries(disk.seen, "toolchain")) == 1


def test_a_disk_that_gets_full_while_the_image_is_made(
    world: World, mirror: BrokenMirror, users_cache: Path, tmp_path: Path
) -> None:
    project = world.project(FILE)
    with mount_small_disk(tmp_path / "small", 1000, [(users_cache, kind) for kind in BASE[:2]]) as disk:
        failed = disk.sandbox(world, "up", "-d", "--yes", "--progress", "plain", cwd=project)
        assert_failed_cleanly(failed, disk.seen, "image", world)
        assert f"no space left in {disk.path}" in failed.out and "the guest image needs 4 GiB" in failed.out
        if os.geteuid() != 0:
            # The small disk of an ordinary user is in a user namespace of one id, where tar believes to be root and
            # fails to give files to groups that are not there: no image can be built in it at all.
            return
        disk.resize(4500)
        process = disk.start(world, "up", "-d", "--yes", "--progress", "plain", cwd=project)
        seen = read_until(process, "building the guest image")
        disk.leave(40)
        failed = finish(process, seen)
        assert_failed_cleanly(failed, disk.seen, "image", world)
        assert f"no space left in {disk.path}" in failed.out and "SANDBOX_CACHE_DIR" in failed.out


def test_a_disk_that_gets_full_under_a_guest_and_under_its_snapshot(
    world: World, users_cache: Path, tmp_path: Path
) -> None:
    """QEMU waits in silence for room when a guest's disk file cannot grow: that must not look like a slow step."""
    up = ("up", "-d", "--yes", "--progress", "plain")
    world.up(world.project(FILE))
    world.sandbox("down", cwd=world.project(FILE)).ok()
    with mount_small_disk(tmp_path / "small", 60, [(users_cache, kind) for kind in BASE]) as disk:
        for step in ("dd if=/dev/urandom of=/var/tmp/x bs=1M count=100 conv=fsync", "true"):
            project = world.project(f"{FILE}setup: [{step!r}]\n")
            failed = disk.sandbox(world, *up, cwd=project)
            assert_failed_cleanly(failed, disk.seen, "setup", world)
            assert f"no space left in {disk.path}" in failed.out and "SANDBOX_CACHE_DIR" in failed.out
            assert ("saving a snapshot" in failed.out) == (step == "true"), failed.out
        disk.resize(1500)
        disk.sandbox(world, *up, cwd=project).ok()
        assert len(entries(disk.seen, "setup")) == 1
        world.run(project, "true").ok()
        world.sandbox("down", cwd=project).ok()


# --- killed builders


def test_a_killed_builder_leaves_no_process_and_the_next_run_sweeps(
    world: World, mirror: BrokenMirror, empty_cache: Path
) -> None:
    for moment in ("downloaded 25 packages", "unpacking"):
        process = world.start("doctor", cwd=world.base)
        read_until(process, moment)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        wait_until(world.processes, lambda found: not found, "processes outlive the builder", timeout_s=2)
        assert entries(empty_cache, "toolchain") == []
        # Nobody was there to remove it; what the run before had left, this one has swept.
        assert len(entries(empty_cache, "tmp")) == 1
    world.sandbox("doctor", cwd=world.base).ok()
    assert len(entries(empty_cache, "toolchain")) == 1
    assert entries(empty_cache, "tmp") == []
