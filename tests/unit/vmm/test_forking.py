"""Forking a machine: in which order, that it runs on whatever fails, and what is there afterwards."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from standing_machine import FakeMachine, FakeMemory

from vmm import apart
from vmm.apart import configured
from vmm.errors import VmmError
from vmm.forking import Forked, fork
from vmm.machine import SAVE_S, Machine
from vmm.private_memory import PrivateMemory
from vmm.snapshot import Shape, load_snapshot

SHAPE = Shape("tcg", 2, 4 << 20, "10.0.13")


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
        assert 0 <= forked.stood_still_s < 10 and not forked.all_stood_still, "nobody has said that its programs did"
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


@pytest.mark.parametrize("stood_still", [True, False])
def test_whether_its_programs_stood_still_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stood_still: bool
) -> None:
    async def scenario() -> Forked:
        machine = FakeMachine()
        monkeypatch.setattr(PrivateMemory, "of", lambda pid, address, size: FakeMemory(machine))
        overlay, still = tmp_path / "next.qcow2", nullcontext(stood_still)
        return await fork(cast("Any", machine), None, SHAPE, tmp_path, overlay, lambda: None, still=still)

    assert asyncio.run(scenario()).all_stood_still is stood_still


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


def test_one_whose_disk_is_not_in_its_place_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scenario() -> FakeMachine:
        machine = FakeMachine()
        monkeypatch.setattr(PrivateMemory, "of", lambda pid, address, size: FakeMemory(machine))
        with pytest.raises(OSError, match="No space left"):
            await fork(cast("Any", machine), None, SHAPE, tmp_path, tmp_path / "next.qcow2", full)
        return machine

    words = "is ended: its new disk could not be put in its place: No space left on device"
    assert asyncio.run(scenario()).said[2:] == ["has another disk", words, "goes on"], "which nobody hears any more"


class LateQemu:
    """A QEMU whose answer to the change of the disk does not come; `disk` is the node that its guest writes into."""

    def __init__(self, disk: str | None, error: str = "QEMU did not answer blockdev-snapshot within 300 s") -> None:
        self.disk = disk
        self.error = VmmError(error)
        self.patience = 0.0
        self.ended = asyncio.Event()

    def kill(self) -> None:
        self.ended.set()

    async def wait(self) -> int:
        await self.ended.wait()
        return -9

    async def lend(self, path: Path, flags: int, name: str | None = None) -> str:
        return "/dev/fdset/7"

    async def execute(self, command: str, *, timeout_s: float = 20.0, **arguments: Any) -> Any:
        if command == "blockdev-snapshot":
            self.patience = timeout_s
            raise self.error
        if command == "query-block":
            if self.disk is None:
                raise VmmError("QEMU did not answer query-block within 300 s")
            others = [{"device": "", "qdev": "empty"}, {"inserted": {"node-name": "agent"}}]
            return [*others, {"inserted": {"node-name": self.disk}}]
        return {}

    def machine(self) -> Machine:
        parts = SimpleNamespace(drives=()), self, self, None, None
        return Machine(*cast("Any", parts))


def test_a_change_of_disk_whose_answer_is_late_counts() -> None:
    async def scenario() -> None:
        qemu = LateQemu("disk-7")
        machine = qemu.machine()
        await machine.change_disk(Path("next.qcow2"))
        assert machine._disk == "disk-7" and not qemu.ended.is_set() and qemu.patience == SAVE_S

    asyncio.run(scenario())


def test_a_change_of_disk_that_was_not_made_leaves_it_as_it_was() -> None:
    async def scenario() -> None:
        qemu = LateQemu("disk", "QEMU refused blockdev-snapshot")
        machine = qemu.machine()
        with pytest.raises(VmmError, match="refused blockdev-snapshot"):
            await machine.change_disk(Path("next.qcow2"))
        assert machine._disk == "disk" and not qemu.ended.is_set()

    asyncio.run(scenario())


def test_one_that_does_not_say_which_disk_it_has_is_ended() -> None:
    """Where it ran on, its new disk would be removed below it."""

    async def scenario() -> None:
        qemu = LateQemu(None)
        machine = qemu.machine()
        with pytest.raises(VmmError, match="did not answer query-block"):
            await machine.change_disk(Path("next.qcow2"))
        assert qemu.ended.is_set() and "nobody knows which disk" in machine.last_words()

    asyncio.run(scenario())


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
    monkeypatch.setattr(apart, "ROOM", 1 << 60)

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
