"""A process without descriptors takes no sandbox that runs for one that is gone, and removes its files later."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.cache.needs import disks_upon
from engine.files import names_in
from engine.lifecycle import down
from engine.lifecycle.down import take_down
from engine.lifecycle.forks import disks, new_fork, sweep_forks
from engine.lifecycle.secret import users_of
from engine.lifecycle.selection import names_of_sandboxes
from engine.state.instances import Instance, Listed, forget_instance, list_instances, look_up, save_instance
from engine.state.layout import Layout
from engine.state.locks import is_locked, locked
from engine.state.processes import describe_process, is_same_process
from vmm import qcow2
from vmm.disk import write_overlay


@contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "cache", tmp_path / "state", tmp_path / "run")


@pytest.fixture
def running(layout: Layout) -> Instance:
    """The record of a sandbox whose supervisor is this process."""
    process = describe_process(os.getpid())
    record = Instance(
        name="shop", project="/shop", file="/shop/Sandboxfile.yaml", plan_key="key",
        created="2026-11-27T00:00:00+00:00", state="running", pid=os.getpid(), process=process,
    )  # fmt: skip
    save_instance(layout, record)
    return record


def test_a_sandbox_that_runs_is_not_taken_for_one_that_is_gone(layout: Layout, running: Instance) -> None:
    assert running.process is not None
    with no_descriptors(), pytest.raises(OSError) as caught:
        look_up(layout, "shop")
    assert caught.value.errno == errno.EMFILE
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        is_same_process(os.getpid(), running.process)


def test_nor_a_lock_that_somebody_has(layout: Layout) -> None:
    path = layout.state / "lock"
    with locked(path), no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        is_locked(path)


def test_what_cannot_be_removed_now_is_said(layout: Layout, running: Instance) -> None:
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        forget_instance(layout, "shop")
    forget_instance(layout, "shop")
    assert not layout.instance("shop").directory.exists()


def test_down_waits_for_descriptors(layout: Layout, running: Instance) -> None:
    gone = Listed("shop", "dead", "dead", running._replace(pid=None))
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def down() -> None:
        # Others give some back.
        asyncio.get_running_loop().call_later(0.1, resource.setrlimit, resource.RLIMIT_NOFILE, usual)
        with no_descriptors():
            await take_down(layout, gone)

    asyncio.run(down())
    assert not layout.instance("shop").directory.exists()


def test_nothing_is_listed_as_not_there(layout: Layout, running: Instance) -> None:
    """Of Python 3.12 and newer, `Path.glob` says nothing of what it could not open."""
    (layout.cache / "locks").mkdir(parents=True)
    for look in (list_instances, names_of_sandboxes, Layout.holds, Layout.noted_states, disks_upon):
        with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
            list(look(layout))
    (layout.instances / ".DS_Store").touch()  # no name of a sandbox
    assert names_of_sandboxes(layout) == ["shop"] == [listed.name for listed in list_instances(layout)]
    assert users_of(layout, "anthropic") == ()
    assert names_in(layout.state / "nowhere") == []


def test_no_signal_goes_to_a_process_that_could_not_be_looked_at(
    layout: Layout, running: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be another one by now: numbers are used again."""
    signals: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append(number))
    monkeypatch.setattr(down, "SCARCE_S", 0.1)
    other = running._replace(process="another boot/1")
    control = layout.instance("shop").sockets.control

    def look(pid: int, process: str) -> bool:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(down, "is_same_process", look)
        with pytest.raises(OSError, match="Too many open files"):
            asyncio.run(down._end_process(layout, Listed("shop", "dead", "dead", other), control, asked=False))
    asyncio.run(down._end_process(layout, Listed("shop", "dead", "dead", other), control, asked=False))
    assert signals == []


def test_the_ground_of_a_clone_stays_where_nobody_can_look(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that could not be read for a moment does not count as one that lies upon nothing."""
    directory = layout.instance("clone").directory
    directory.mkdir(parents=True)
    with new_fork(layout) as fork:
        (base := layout.state / "base.raw").write_bytes(bytes(1 << 20))
        write_overlay(fork.disk, base, "raw")
        write_overlay(directory / "disk.qcow2", fork.disk, "qcow2")
    assert fork.disk.exists()
    with no_descriptors():
        sweep_forks(layout)
        with pytest.raises(OSError, match="Too many open files"):
            list(disks(layout))

    def read_backing(disk: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(qcow2, "read_backing", read_backing)
        sweep_forks(layout)
    assert fork.disk.exists()
    (directory / "disk.qcow2").unlink()
    sweep_forks(layout)
    assert not fork.disk.exists()
