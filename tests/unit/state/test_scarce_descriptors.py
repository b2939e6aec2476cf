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

from engine.lifecycle.down import take_down
from engine.state.instances import Instance, Listed, forget_instance, look_up, save_instance
from engine.state.layout import Layout
from engine.state.locks import is_locked, locked
from engine.state.processes import describe_process, is_same_process


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
