"""What holds for a guest from its first moment on, and what is said of one that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.gateway.policy import Policy
from engine.guest import guest
from engine.guest.guest import Guest, NeverAnswered, begin_guest
from engine.guest.identity import Identity
from vmm.channel.errors import GuestSilent


class Seen(Exception):
    """The machine runs: the test is over."""


@contextlib.asynccontextmanager
async def begun(directory: Path, run: Callable[[], Awaitable[None]], accelerator: str = "kvm") -> AsyncIterator[Guest]:
    """A guest whose machine is none, and whose network is `open_network` of this test."""
    ours, theirs = socket.socketpair()
    with theirs:
        streams = lambda: asyncio.open_connection(sock=ours)  # noqa: E731
        spec = SimpleNamespace(accelerator=accelerator)
        machine = SimpleNamespace(channel_streams=streams, run=run, spec=spec)
        parts = SimpleNamespace(
            memory=SimpleNamespace(descriptor=-1, shared=False),
            carrier=None,
            started=lambda: asyncio.sleep(0, machine),
            end_machine=lambda: asyncio.sleep(0),
        )
        options: dict[str, Any] = {"begun": parts, "parent": SimpleNamespace(ram=None), "rate": 4096}
        async with begin_guest(
            cast("Any", SimpleNamespace(tools=None)),
            name="shop",
            disk=directory / "disk.qcow2",
            policy=Policy(()),
            identity=Identity("shop"),
            runtime=directory,
            journal=cast("Any", None),
            **options,
        ) as found:
            yield found


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was done of a guest that `begun` begins, in its order."""
    found: list[object] = []
    gateway = SimpleNamespace(names={}, pace=found.append)

    @contextlib.asynccontextmanager
    async def open_network(*parts: object, **options: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(gateway=gateway)

    async def keep_roused(channel: object, log: object) -> None:
        found.append("roused")

    monkeypatch.setattr(guest, "open_network", open_network)
    monkeypatch.setattr(guest, "keep_roused", keep_roused)
    return found


@pytest.mark.parametrize(("accelerator", "roused"), [("tcg", ["roused"]), ("kvm", [])])
def test_the_pace_is_set_before_the_machine_runs(
    accelerator: str, roused: list[str], tmp_path: Path, said: list[object]
) -> None:
    """And an emulated machine, which may lose a timer, is kept roused from then on."""

    async def run() -> None:
        await asyncio.sleep(0)
        said.append("runs")
        raise Seen

    async def scenario() -> None:
        async with begun(tmp_path, run, accelerator):
            pass

    with pytest.raises(Seen):
        asyncio.run(scenario())
    assert said == [4096, *roused, "runs"]


@pytest.mark.parametrize(("answers", "kind"), [(True, GuestSilent), (False, NeverAnswered)])
def test_who_has_answered_once_is_no_silent_machine(
    answers: bool, kind: type[GuestSilent], tmp_path: Path, said: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked later may take too long: its machine is not started once more for that."""

    async def take_over(*parts: object, **options: object) -> None:
        if not answers:
            await asyncio.Event().wait()

    async def scenario() -> None:
        async with begun(tmp_path, lambda: asyncio.sleep(0)) as found:
            await asyncio.wait({found.ready}, timeout=0)
            raise GuestSilent("health: no answer from the guest within 600 s")

    monkeypatch.setattr(guest, "_take_over", take_over)
    with pytest.raises(GuestSilent, match="health: no answer") as caught:
        asyncio.run(scenario())
    assert type(caught.value) is kind
