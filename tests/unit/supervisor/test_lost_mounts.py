"""A mount whose file server has ended: said once, unplugged, and nothing is paused that could not go on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from engine.errors import EngineError
from engine.supervisor.lost_mounts import LostMounts
from engine.workspaces.mount_point import MountPoint
from vmm.errors import VmmError

MOUNTS = (MountPoint("/src", "/workspace", False), MountPoint("/data", "/data", True))


class FakeMachine:
    """Unplugs; the first time QEMU refuses."""

    def __init__(self) -> None:
        self.unplugged: list[int] = []
        self.called = asyncio.Event()

    async def unplug_mount(self, slot: int) -> None:
        self.unplugged.append(slot)
        self.called.set()
        if len(self.unplugged) == 1:
            raise VmmError("QEMU refused device_del")


def test_each_is_said_and_unplugged_whenever_it_is_lost() -> None:
    warned: list[str] = []
    logged: list[str] = []

    async def scenario() -> None:
        lost, machine = LostMounts(MOUNTS, warned.append, logged.append), FakeMachine()
        lost.check_started()
        lost.check_whole()
        lost.lose(1, "the file server ends: no memory")  # before there is a machine
        task = asyncio.create_task(lost.unplug(cast("Any", machine)))
        await machine.called.wait()
        machine.called.clear()
        lost.lose(0, "")
        await machine.called.wait()
        task.cancel()
        assert machine.unplugged == [1, 0]
        with pytest.raises(EngineError, match="the file server of /data has ended") as raised:
            lost.check_started()
        assert raised.value.details == "the file server ends: no memory"
        with pytest.raises(EngineError, match="cannot be paused"):
            lost.check_whole()
        # Nobody tries again to begin with what nobody serves.
        await lost.begun.keep_trying(cast("Any", None), lambda *text: None, lambda key: None)

    asyncio.run(scenario())
    assert [text.partition(",")[0] for text in warned] == [
        "the file server of /data has ended",
        "the file server of /workspace has ended",
    ]
    assert logged[0] == "the file server of /data has ended: the file server ends: no memory"


@pytest.mark.parametrize("before", [False, True])
def test_a_guest_that_waits_for_a_mount_that_is_lost_is_waited_for_no_more(before: bool) -> None:
    async def scenario() -> None:
        lost = LostMounts(MOUNTS, lambda text: None, lambda text: None)
        ended = asyncio.Event()

        async def mount() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.set()

        if before:
            lost.lose(0, "")
        else:
            asyncio.get_running_loop().call_soon(lost.lose, 0, "killed")
        with pytest.raises(EngineError, match="the file server of /src has ended"):
            async with asyncio.timeout(10):
                await lost.unless_lost(mount())
        assert before or ended.is_set()

    asyncio.run(scenario())


def test_what_needs_the_mounts_ends_as_it_does_where_none_is_lost() -> None:
    async def scenario() -> None:
        lost = LostMounts(MOUNTS, lambda text: None, lambda text: None)

        async def mount() -> None:
            raise VmmError("no such device")

        with pytest.raises(VmmError, match="no such device"):
            await lost.unless_lost(mount())

        async def mount_as_it_ends() -> None:
            lost.lose(1, "")

        with pytest.raises(EngineError, match="the file server of /data has ended"):
            await lost.unless_lost(mount_as_it_ends())

    asyncio.run(scenario())
