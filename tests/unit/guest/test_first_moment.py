"""What holds for a guest's network from its first moment on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.gateway.policy import Policy
from engine.guest import guest
from engine.guest.guest import begin_guest
from engine.guest.identity import Identity


class Seen(Exception):
    """The machine runs: the test is over."""


@pytest.mark.parametrize(("accelerator", "roused"), [("tcg", ["roused"]), ("kvm", [])])
def test_the_pace_is_set_before_the_machine_runs(
    accelerator: str, roused: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an emulated machine, which may lose a timer, is kept roused from then on."""
    said: list[object] = []
    gateway = SimpleNamespace(names={}, pace=lambda rate: said.append(rate))

    @contextlib.asynccontextmanager
    async def open_network(*parts: object, **options: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(gateway=gateway)

    async def keep_roused(channel: object, log: object) -> None:
        said.append("roused")

    async def run() -> None:
        await asyncio.sleep(0)
        said.append("runs")
        raise Seen

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            streams = lambda: asyncio.open_connection(sock=ours)  # noqa: E731
            machine = SimpleNamespace(channel_streams=streams, run=run, spec=SimpleNamespace(accelerator=accelerator))
            begun = SimpleNamespace(
                memory=SimpleNamespace(descriptor=-1, shared=False),
                carrier=None,
                started=lambda: asyncio.sleep(0, machine),
                end_machine=lambda: asyncio.sleep(0),
            )
            options: dict[str, Any] = {"begun": begun, "parent": SimpleNamespace(ram=None), "rate": 4096}
            base = cast("Any", SimpleNamespace(tools=None))
            async with begin_guest(
                base,
                name="shop",
                disk=tmp_path / "disk.qcow2",
                policy=Policy(()),
                identity=Identity("shop"),
                runtime=tmp_path,
                journal=cast("Any", None),
                **options,
            ):
                pass

    monkeypatch.setattr(guest, "open_network", open_network)
    monkeypatch.setattr(guest, "keep_roused", keep_roused)
    with pytest.raises(Seen):
        asyncio.run(scenario())
    assert said == [4096, *roused, "runs"]
