"""Who needs a fork, and its end: nothing but the disks themselves says so."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from disk_headers import qcow2

from engine.errors import EngineError
from engine.lifecycle import forks
from engine.lifecycle.forks import new_fork, sweep_forks
from engine.state.layout import Layout

FILES = ("ram", "state", "meta.json", "launch.json", "authority.pem", "layer-1.qcow2")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "cache", tmp_path / "state", tmp_path / "run")


def make_fork(layout: Layout, name: str, below: str | None = None) -> Path:
    """All of a fork that its command has left."""
    fork = layout.fork(name)
    fork.directory.mkdir(parents=True)
    for each in FILES:
        (fork.directory / each).write_text("x")
    fork.disk.write_bytes(qcow2(below))
    fork.held.touch()
    (fork.clones / "0").mkdir(parents=True)
    return fork.directory


def disk_over(layout: Layout, sandbox: str, below: Path | None, name: str = "disk.qcow2") -> Path:
    path = layout.instance(sandbox).directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(qcow2(str(below) if below else None))
    return path


@contextmanager
def held(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / "held", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_only_the_disk_stays_for_those_that_began_there(layout: Layout) -> None:
    needed, other = make_fork(layout, "a" * 16), make_fork(layout, "b" * 16)
    disk = disk_over(layout, "shop-2", needed / "disk.qcow2")
    sweep_forks(layout)
    assert names(needed) == ["disk.qcow2", "layer-1.qcow2", "meta.json"], "memory and keys are of no use any more"
    assert not other.exists()
    disk.unlink()
    sweep_forks(layout)
    assert not layout.forks.exists(), "with the last disk above it"


def test_a_fork_of_a_clone_needs_what_that_began_from(layout: Layout) -> None:
    first = make_fork(layout, "a" * 16)
    second = make_fork(layout, "b" * 16, str(first / "disk.qcow2"))
    disk_over(layout, "shop-2-2", second / "disk.qcow2")
    sweep_forks(layout)
    assert (first / "disk.qcow2").exists() and (second / "disk.qcow2").exists()


def test_a_paused_sandbox_and_layers_count(layout: Layout) -> None:
    """A clone that was forked has layers of its own between its disk and where it began."""
    began = make_fork(layout, "a" * 16)
    layer = disk_over(layout, "shop-2", began / "disk.qcow2", "layer-1.qcow2")
    disk_over(layout, "shop-2", Path(layer.name))
    sweep_forks(layout)
    assert (began / "disk.qcow2").exists()


def test_what_is_held_stays_whole_with_what_it_lies_over(layout: Layout) -> None:
    first = make_fork(layout, "a" * 16)
    second = make_fork(layout, "b" * 16, str(first / "disk.qcow2"))
    with held(second):
        sweep_forks(layout)
        assert names(second) == sorted([*FILES, "clones", "disk.qcow2", "held"])
        assert names(first) == ["disk.qcow2", "layer-1.qcow2", "meta.json"]
    sweep_forks(layout)
    assert not layout.forks.exists()


def test_a_clone_that_comes_while_the_disks_are_looked_at_keeps_its_own(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is made and the fork let go after somebody else's look at the disks."""
    began = make_fork(layout, "a" * 16)
    with contextlib.ExitStack() as command:
        command.enter_context(held(began))
        look = forks.disks

        def looked(layout: Layout) -> list[Path]:
            found = list(look(layout))
            disk_over(layout, "shop-2", began / "disk.qcow2")
            command.close()
            return found

        with monkeypatch.context() as patched:
            patched.setattr(forks, "disks", looked)
            sweep_forks(layout)
    assert (began / "disk.qcow2").exists()
    sweep_forks(layout)
    assert names(began) == ["disk.qcow2", "layer-1.qcow2", "meta.json"]


def test_a_disk_that_cannot_be_read_keeps_nothing_but_one_that_moves_keeps_all(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = make_fork(layout, "a" * 16)
    disk_over(layout, "shop", None).write_bytes(b"no disk")

    def moved(path: Path) -> None:
        raise FileNotFoundError(path)

    with monkeypatch.context() as patched:
        patched.setattr("vmm.qcow2.read_backing", moved)
        sweep_forks(layout)
    assert names(began) == sorted([*FILES, "clones", "disk.qcow2", "held"]), "who saw too little removes nothing"
    sweep_forks(layout)
    assert not began.exists()


def test_a_new_fork_is_held_and_goes(layout: Layout) -> None:
    left = make_fork(layout, "a" * 16)
    with new_fork(layout) as new:
        assert not left.exists(), "what a killed one has left goes first"
        new.disk.write_bytes(qcow2(None))
        assert new.directory.stat().st_mode & 0o777 == 0o700
        sweep_forks(layout)
        assert new.disk.exists()
        disk_over(layout, "shop-2", new.disk)
        (new.directory / "ram").touch()
    assert names(new.directory) == ["disk.qcow2"]


@pytest.mark.parametrize("name", ["../shop", "x" * 16, "", "/etc"])
def test_no_name_leads_out(layout: Layout, name: str) -> None:
    with pytest.raises(EngineError):
        layout.fork(name)
