"""The record of a sandbox follows what it is, also where the disk had no room when that changed."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

from engine.errors import EngineError
from engine.state.instances import Instance, load_instance, save_instance
from engine.state.layout import Layout
from engine.supervisor import record as module
from engine.supervisor.record import update_record


def test_what_had_no_room_is_written_when_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.from_environment(os.environ)
    record = Instance("shop", "/p", "/p/f", "key", "2026-01-01T00:00:00Z", "starting")
    save_instance(layout, record)
    full = [True]

    def save(layout: Layout, instance: Any) -> None:
        if full[0]:
            raise EngineError("cannot write: No space left on device")
        save_instance(layout, instance)

    async def scenario() -> None:
        monkeypatch.setattr(module, "save_instance", save)
        monkeypatch.setattr(module, "RETRY_S", 0.0)
        assert update_record(layout, record, state="running").state == "running", "the sandbox goes on"
        update_record(layout, record, ports=[{"host": 1, "guest": 2}])
        await asyncio.sleep(0)
        assert (found := load_instance(layout, "shop")) is not None and found.state == "starting"
        full[0] = False
        await asyncio.gather(*module._following.values())
        found = load_instance(layout, "shop")
        assert found is not None and (found.state, found.ports) == ("running", [{"host": 1, "guest": 2}])

    asyncio.run(scenario())


def test_what_was_written_with_something_newer_is_owed_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what was owed before that come back, and the next one is followed as the first was."""
    layout = Layout.from_environment(os.environ)
    record = Instance("shop", "/p", "/p/f", "key", "2026-01-01T00:00:00Z", "starting")
    save_instance(layout, record)
    full = [True]

    def save(layout: Layout, instance: Any) -> None:
        if full[0]:
            raise EngineError("cannot write: No space left on device")
        save_instance(layout, instance)

    async def scenario() -> None:
        monkeypatch.setattr(module, "save_instance", save)
        monkeypatch.setattr(module, "RETRY_S", 0.0)
        update_record(layout, record, state="running")
        await asyncio.sleep(0)  # it waits for room
        full[0] = False
        update_record(layout, record, state="paused")
        await asyncio.gather(*module._following.values())
        assert (found := load_instance(layout, "shop")) is not None and found.state == "paused"
        full[0] = True
        update_record(layout, record, state="stopped")
        await asyncio.sleep(0)
        full[0] = False
        await asyncio.gather(*module._following.values())
        assert (found := load_instance(layout, "shop")) is not None and found.state == "stopped"

    asyncio.run(scenario())
    assert module._following == {} and module._owed == {}


def test_a_record_that_cannot_be_read_for_want_of_descriptors_follows_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.from_environment(os.environ)
    record = Instance("shop", "/p", "/p/f", "key", "2026-01-01T00:00:00Z", "starting")
    save_instance(layout, record)
    scarce = [True, True]  # at the change itself, and at the first try after it

    def load(layout: Layout, name: str) -> Instance | None:
        if scarce and scarce.pop():
            raise OSError(errno.EMFILE, "Too many open files")
        return load_instance(layout, name)

    async def scenario() -> None:
        monkeypatch.setattr(module, "load_instance", load)
        monkeypatch.setattr(module, "RETRY_S", 0.0)
        assert update_record(layout, record, state="running").state == "running", "the sandbox goes on"
        await asyncio.gather(*module._following.values())

    asyncio.run(scenario())
    assert (found := load_instance(layout, "shop")) is not None and found.state == "running"
    assert module._following == {} and module._owed == {} and scarce == []
