"""Live mounts with whose device QEMU could not begin: another try, and a word."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.errors import EngineError
from engine.supervisor import begun_mounts
from engine.supervisor.begun_mounts import TRIES, BegunMounts, try_again
from engine.workspaces.mount_point import MountPoint
from vmm.errors import VmmError

MOUNTS = (MountPoint("/src", "/workspace", False), MountPoint("/data", "/data", True))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begun_mounts, "hello_s", lambda: 0.2)


def test_what_has_begun_is_waited_for_and_nothing_is_tried_again() -> None:
    async def scenario() -> None:
        mounts, tried = BegunMounts(MOUNTS), list[int]()
        waiting = asyncio.ensure_future(mounts.until(cast("Any", tried.clear), 0))
        await asyncio.sleep(0)
        assert not waiting.done()
        mounts.begin(0)
        await waiting

    asyncio.run(scenario())


@pytest.mark.parametrize(("helps", "tries"), [(2, 2), (99, TRIES)])
def test_it_is_tried_again_and_then_given_up(helps: int, tries: int) -> None:
    tried: list[int] = []

    async def scenario() -> None:
        mounts = BegunMounts(MOUNTS)

        async def again() -> None:
            tried.append(1)
            if len(tried) == helps:
                mounts.begin(1)

        await mounts.until(again, 1)

    if helps > TRIES:
        with pytest.raises(EngineError, match="QEMU did not begin with the mount /data"):
            asyncio.run(scenario())
    else:
        asyncio.run(scenario())
    assert len(tried) == tries


def test_a_machine_that_goes_on_is_not_given_up() -> None:
    """The user is told of the mount, and that it is well again; a QEMU that answers late is asked again."""
    said: list[tuple[str, ...]] = []

    async def scenario() -> None:
        mounts, tried = BegunMounts(MOUNTS), list[int]()
        mounts.begin(1)

        async def again() -> None:
            tried.append(1)
            if len(tried) < TRIES + 2:
                raise VmmError("QEMU does not answer")
            mounts.begin(0)

        await mounts.keep_trying(again, lambda *text: said.append(text), lambda key: said.append((key,)))

    asyncio.run(scenario())
    assert {words[0] for words in said} == {"/workspace has not begun", "/data has not begun"}
    assert said[0][1].startswith("/workspace does not answer")
    assert said[-2:] == [("/workspace has not begun",), ("/data has not begun",)]


def test_another_try_waits_for_those_who_need_the_machine_as_it_is() -> None:
    done: list[str] = []

    async def scenario() -> None:
        busy = asyncio.Lock()
        machine = SimpleNamespace(
            stand_still=lambda: asyncio.sleep(0, done.append("still")), run=lambda: asyncio.sleep(0, done.append("on"))
        )
        async with busy:
            trying = asyncio.ensure_future(try_again(cast("Any", machine), busy))
            await asyncio.sleep(0)
            assert done == []
        await trying

    asyncio.run(scenario())
    assert done == ["still", "on"]
