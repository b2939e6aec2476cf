"""A machine whose disk has no room is let go on, also on a host where QEMU answers late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from engine.supervisor import disk_room
from engine.supervisor.disk_room import HALTED, KEY, keep_room
from vmm.errors import VmmError


class FakeQmp:
    """Tells of one write that did not fit; its first answer comes too late."""

    def __init__(self) -> None:
        self.status: list[Any] = [VmmError("QEMU did not answer"), "running", HALTED, HALTED]
        self.events: asyncio.Queue[object] = asyncio.Queue()

    @contextlib.contextmanager
    def hearing(self, event: str) -> Iterator[Any]:
        assert event == "BLOCK_IO_ERROR"
        self.events.put_nowait({"event": event})
        self.get, self.clear = self.events.get, lambda: None
        yield self

    async def execute(self, command: str) -> Any:
        assert command == "query-status"
        status = self.status.pop(0) if self.status else "running"
        if isinstance(status, Exception):
            raise status
        return {"status": status}


class FakeMachine:
    def __init__(self) -> None:
        self.qmp = FakeQmp()
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if self.runs == 1:
            self.qmp.status = [HALTED, HALTED]
            raise VmmError("QEMU did not answer cont within 20 s")


def test_one_answer_that_fails_does_not_end_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_room, "LOOK_S", 0.001)
    monkeypatch.setattr(disk_room, "ENOUGH", 0)
    told: list[str] = []

    async def scenario() -> None:
        machine, ended = FakeMachine(), asyncio.Event()

        def end(key: str) -> None:
            told.append(f"end {key}")
            ended.set()

        begin = lambda key, text: told.append(f"begin {key}")  # noqa: E731
        watching = keep_room(cast("Any", machine), tmp_path / "disk.qcow2", asyncio.Lock(), begin, end)
        task = asyncio.create_task(watching)
        async with asyncio.timeout(20):
            await ended.wait()
        task.cancel()
        assert machine.runs == 2

    asyncio.run(scenario())
    assert told == [f"begin {KEY}", f"begin {KEY}", f"end {KEY}"]
