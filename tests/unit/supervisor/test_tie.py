"""A sandbox that is there for one command ends with it, and no other way is mistaken for that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from engine.state.instances import hold_name
from engine.state.layout import Layout
from engine.supervisor import tie as tying
from engine.supervisor.tie import Tie, forget_torn

STREAM = cast("Any", None)


async def tied(tie: Tie) -> asyncio.Task[Any]:
    """A command has tied itself."""
    task = asyncio.create_task(tie.handle({}, STREAM))
    await asyncio.sleep(0)
    return task


async def client_goes(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_killed_command_ends_it() -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        tie = Tie(stop)
        await client_goes(await tied(tie))
        assert stop.is_set() and tie.torn

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["kept", "down", "ends by itself"])
def test_what_is_no_death_of_the_command(how: str) -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        tie = Tie(stop)
        task = await tied(tie)
        if how == "kept":
            assert await tie.handle({"keep": True}, STREAM) == {}
        elif how == "down":
            stop.set()
        else:
            tie.loosen()
        await client_goes(task)
        assert not tie.torn and stop.is_set() == (how == "down")

    asyncio.run(scenario())


def test_a_command_that_was_killed_before_it_tied_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        tie = Tie(stop)
        task = await tied(tie)
        await tie.expect()
        assert not stop.is_set()
        await client_goes(task)
        monkeypatch.setattr(tying, "TIED_S", 0.0)
        alone = Tie(stop := asyncio.Event())
        await alone.expect()
        assert alone.torn and stop.is_set()

    asyncio.run(scenario())


def test_its_files_go_unless_another_command_has_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cache", tmp_path / "state", tmp_path / "run")
    directory = layout.instance("shop-run-1").directory
    directory.mkdir(parents=True)
    with hold_name(layout, "shop-run-1"):
        assert "shop-run-1" in str(forget_torn(layout, "shop-run-1"))
        assert directory.exists()
    assert forget_torn(layout, "shop-run-1") is None
    assert not directory.exists()
