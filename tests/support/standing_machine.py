"""A machine in the place of QEMU that stands still and is saved, and its memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vmm.spec import Drive


class FakeMachine:
    """A machine in the place of QEMU; `said` is in which order."""

    pid = 1

    def __init__(self) -> None:
        self.said: list[str] = []
        self.plugged = [Drive(Path("/cache/layer/disk.raw"), "agent", "raw", read_only=True, slot=8)]
        self.fails: dict[str, Exception] = {}
        self.spec = SimpleNamespace(network=SimpleNamespace(stream=7))
        self.reached, self.may = asyncio.Event(), asyncio.Event()
        self.may.set()

    async def type(self) -> str:
        return "pc-q35-10.0"

    async def memory_address(self) -> int:
        return 0

    async def stand_still(self) -> None:
        self.say("stands still")

    async def change_disk(self, overlay: Path) -> None:
        self.say("has another disk")

    async def save_devices(self, state: Path) -> None:
        self.say("saves its devices")
        self.reached.set()
        await self.may.wait()
        state.write_bytes(b"QEVM\0\0\0\3devices")

    async def save(self, state: Path) -> None:
        self.say("writes all of it")
        state.write_bytes(b"devices and memory")

    async def run(self) -> None:
        self.say("goes on")

    def fail(self, why: str) -> None:
        self.say(f"is ended: {why}")

    async def wait(self) -> int:
        return -9

    def say(self, word: str) -> None:
        self.said.append(word)
        if word in self.fails:
            raise self.fails[word]


class FakeMemory:
    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    def changed_bytes(self) -> int:
        return 1 << 20

    def prepare(self, template: int | None, target: Path) -> None:
        self._machine.say("its file is copied")
        target.write_bytes(b"old")

    def read_changed(self) -> Any:
        self._machine.say("its pages are read")
        return self

    def write_changed(self, target: Path) -> int:
        return self.write(target)

    def write(self, target: Path) -> int:
        self._machine.say("its pages are written")
        target.write_bytes(b"new")
        return 3
