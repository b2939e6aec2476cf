"""Forking a machine: in which order, that it runs on whatever fails, and what is there afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from vmm import forking
from vmm.errors import VmmError
from vmm.forking import Forked, configured, fork
from vmm.private_memory import PrivateMemory
from vmm.snapshot import Shape, load_snapshot
from vmm.spec import Drive

SHAPE = Shape("tcg", 2, 4 << 20, "10.0.13")


class FakeMachine:
    """A machine in the place of QEMU; `said` is in which order."""

    pid = 1

    def __init__(self) -> None:
        self.said: list[str] = []
        self.plugged = [Drive(Path("/cache/layer/disk.raw"), "agent", "raw", read_only=True, slot=8)]
        self.fails: dict[str, Exception] = {}
        self.reached, self.may = asyncio.Event(), asyncio.Event()
        self.may.set()

    async def type(self) -> str:
        return "pc-q35-10.0"

    async def memory_address(self) -> int:
        return 0

    async def stand_still(self) -> None:
        self._say("stands still")

    async def change_disk(self, overlay: Path) -> None:
        self._say("has another disk")

    async def save_devices(self, state: Path) -> None:
        self._say("saves its devices")
        self.reached.set()
        await self.may.wait()
        state.write_bytes(b"QEVM\0\0\0\3devices")

    async def run(self) -> None:
        self._say("goes on")

    def _say(self, word: str) -> None:
        self.said.append(word)
        if word in self.fails:
            raise self.fails[word]


class FakeMemory:
    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    def changed_bytes(self) -> int:
        return 1 << 20

    def prepare(self, template: int | None, target: Path) -> None:
        self._machine._say("its file is copied")
        target.write_bytes(b"old")

    def read_changed(self) -> Any:
        self._machine._say("its pages are read")
        return self

    def write(self, target: Path) -> int:
        self._machine._say("its pages are written")
        target.write_bytes(b"new")
        return 3


Fork = Callable[[FakeMachine], "Any"]


@pytest.fixture
def forks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fork:
    async def run(machine: FakeMachine) -> Forked:
        monkeypatch.setattr(PrivateMemory, "of", lambda pid, address, size: FakeMemory(machine))
        on_disk = lambda: machine.said.append("its disk is in its place")  # noqa: E731
        return await fork(cast("Any", machine), None, SHAPE, tmp_path, tmp_path / "next.qcow2", on_disk)

    return run


def test_it_stands_still_for_what_can_change_only(forks: Fork, tmp_path: Path) -> None:
    async def scenario() -> FakeMachine:
        machine = FakeMachine()
        forked = await forks(machine)
        assert 0 <= forked.stood_still_s < 10
        return machine

    said = asyncio.run(scenario()).said
    assert said[:4] == ["its file is copied", "stands still", "has another disk", "its disk is in its place"]
    assert sorted(said[4:6]) == ["its pages are read", "saves its devices"] and said[6:] == [
        "goes on",
        "its pages are written",
    ]
    snapshot = load_snapshot(tmp_path)
    assert snapshot.shape == SHAPE and snapshot.ram.read_bytes() == b"new"
    assert [(drive.path, drive.slot) for drive in snapshot.drives] == [(Path("/cache/layer/disk.raw"), 8)]
    assert (tmp_path / "meta.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("step", ["stands still", "has another disk", "saves its devices", "its pages are read"])
def test_what_fails_lets_it_run_on(forks: Fork, tmp_path: Path, step: str) -> None:
    async def scenario() -> FakeMachine:
        machine = FakeMachine()
        machine.fails[step] = VmmError("QEMU refused")
        with pytest.raises(VmmError, match="QEMU refused"):
            await forks(machine)
        return machine

    assert asyncio.run(scenario()).said[-1] == "goes on"
    assert not (tmp_path / "meta.json").exists(), "it is no snapshot"


def test_one_that_is_given_up_lets_it_run_on(forks: Fork, tmp_path: Path) -> None:
    async def scenario() -> FakeMachine:
        machine = FakeMachine()
        machine.may.clear()
        task = asyncio.create_task(forks(machine))
        await machine.reached.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert "goes on" not in machine.said, "QEMU is not told to go on while it saves"
        machine.may.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return machine

    assert asyncio.run(scenario()).said[-1] == "goes on"
    assert not (tmp_path / "meta.json").exists()


def test_a_disk_without_room_is_seen_before_it_stands_still(forks: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "ROOM", 1 << 60)

    async def scenario() -> FakeMachine:
        machine = FakeMachine()
        with pytest.raises(VmmError, match="are free"):
            await forks(machine)
        return machine

    assert asyncio.run(scenario()).said == []


def test_a_state_says_what_a_migration_says_first() -> None:
    """To the byte what QEMU 10.0 wrote as the first part of a snapshot of ours."""
    head = "5145564d00000003 07 0000000b 70632d7133352d31302e30 05 1a"
    capabilities = b"configuration/capabilities".hex() + "00000001 00000001 0f" + b"x-ignore-shared".hex()
    assert configured(b"QEVM\0\0\0\3devices", "pc-q35-10.0") == bytes.fromhex(head + capabilities) + b"devices"
    for other in (b"", b"QEVM\0\0\0\4devices", b"devices"):
        with pytest.raises(VmmError, match="not known"):
            configured(other, "pc-q35-10.0")
