"""Putting a machine aside whose memory is private to QEMU: it becomes a file, and whatever fails lets it run on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from standing_machine import FakeMachine, FakeMemory

from vmm import apart
from vmm.errors import VmmError
from vmm.private_memory import PrivateMemory
from vmm.snapshot import Shape, load_snapshot
from vmm.suspension import suspend

SHAPE = Shape("tcg", 2, 4 << 20, "10.0.13")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    machine = FakeMachine()
    monkeypatch.setattr(PrivateMemory, "of", lambda pid, address, size: FakeMemory(machine))
    return machine


def put_aside(machine: FakeMachine, directory: Path) -> None:
    commit = lambda: machine.said.append("is aside")  # noqa: E731
    asyncio.run(suspend(cast("Any", machine), None, None, SHAPE, directory, commit))


def test_private_memory_becomes_a_file(machine: FakeMachine, tmp_path: Path) -> None:
    put_aside(machine, tmp_path)
    said = machine.said
    assert said[:2] == ["its file is copied", "stands still"], "what cannot change is copied while it runs"
    assert sorted(said[2:4]) == ["its pages are written", "saves its devices"] and said[4:] == ["is aside"]
    snapshot = load_snapshot(tmp_path)
    assert snapshot.ram.read_bytes() == b"new" and snapshot.shape == SHAPE
    assert b"pc-q35-10.0" in snapshot.state.read_bytes() and snapshot.state.read_bytes().endswith(b"devices")


@pytest.mark.parametrize("step", ["stands still", "saves its devices", "its pages are written"])
def test_what_fails_lets_it_run_on(machine: FakeMachine, tmp_path: Path, step: str) -> None:
    machine.fails[step] = VmmError("QEMU refused")
    with pytest.raises(VmmError, match="QEMU refused"):
        put_aside(machine, tmp_path)
    assert machine.said[-1] == "goes on" and "is aside" not in machine.said


def test_where_nobody_may_read_it_qemu_writes_it(
    machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, address: int, size: int) -> FakeMemory:
        raise VmmError("this host does not let us read the memory of a machine")

    monkeypatch.setattr(PrivateMemory, "of", refuse)
    put_aside(machine, tmp_path)
    assert machine.said == ["stands still", "writes all of it", "is aside"]
    assert not load_snapshot(tmp_path).ram.exists(), "it is in the state of the devices"


def test_with_a_user_network_qemu_writes_it(machine: FakeMachine, tmp_path: Path) -> None:
    machine.spec.network.stream = None
    put_aside(machine, tmp_path)
    assert machine.said == ["stands still", "writes all of it", "is aside"]


def test_a_disk_without_room_is_seen_before_it_stands_still(
    machine: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "ROOM", 1 << 60)
    with pytest.raises(VmmError, match="are free"):
        put_aside(machine, tmp_path)
    assert machine.said == [] and not (tmp_path / "ram").exists()
