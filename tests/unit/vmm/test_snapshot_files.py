"""What `load_snapshot` takes, and that it says no in one voice; saving stops where QEMU did."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest
from open_memory import open_memory

from vmm.errors import VmmError
from vmm.machine import Machine
from vmm.snapshot import FORMAT, Shape, load_snapshot, save_snapshot
from vmm.spec import Drive

MIB = 1024 * 1024
SHAPE = Shape("tcg", 2, MIB, "10.0.13")


class FakeProcess:
    returncode: int | None = None


class FakeMachine:
    """Ends with `code` when asked to quit."""

    def __init__(self, code: int | None) -> None:
        self.process = FakeProcess()
        self.code = code
        self.plugged: list[Drive] = []

    async def save(self, state: Path) -> None:
        state.write_bytes(b"state")

    async def quit(self) -> None:
        self.process.returncode = self.code


def save(directory: Path, code: int | None) -> Any:
    machine = cast(Machine, FakeMachine(code))
    with open_memory(MIB) as memory:
        return asyncio.run(save_snapshot(machine, memory, SHAPE, directory))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    snapshot = save(tmp_path, 0)
    assert load_snapshot(tmp_path) == snapshot
    assert snapshot.ram.stat().st_size == MIB
    assert (snapshot.state, snapshot.disk) == (tmp_path / "state", tmp_path / "disk.qcow2")


def test_plugged_disks_are_found_again_after_a_move(tmp_path: Path) -> None:
    (tmp_path / "cache" / "agent").mkdir(parents=True)
    machine = FakeMachine(0)
    machine.plugged = [Drive(tmp_path / "cache/layer/x.erofs", "agent", "raw", read_only=True, slot=8)]
    with open_memory(MIB) as memory:
        asyncio.run(save_snapshot(cast(Machine, machine), memory, SHAPE, tmp_path / "cache/agent"))
    (tmp_path / "cache").rename(tmp_path / "moved")
    (drive,) = load_snapshot(tmp_path / "moved/agent").drives
    assert drive == Drive(tmp_path / "moved/layer/x.erofs", "agent", "raw", read_only=True, slot=8)


@pytest.mark.parametrize("code", [None, 1, -9])
def test_a_qemu_that_did_not_end_well_is_no_snapshot(tmp_path: Path, code: int | None) -> None:
    with pytest.raises(VmmError, match="did not end properly"):
        save(tmp_path, code)
    assert not (tmp_path / "meta.json").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", json.dumps({"format": FORMAT}), json.dumps({"format": FORMAT, "shape": {"x": 1}})],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(VmmError, match="no readable snapshot"):
        load_snapshot(tmp_path)


def test_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VmmError, match="no readable snapshot"):
        load_snapshot(tmp_path)


def test_another_format_says_so(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"format": FORMAT + 1, "shape": asdict(SHAPE)}))
    with pytest.raises(VmmError, match=f"has format {FORMAT + 1}, this version reads {FORMAT}"):
        load_snapshot(tmp_path)
