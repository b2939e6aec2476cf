"""Why a guest did not come up: its machine has ended, it says something else, or it says nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from engine.guest import guest
from vmm.channel.errors import GuestError, GuestSilent
from vmm.errors import VmmError


async def never() -> int:
    await asyncio.Event().wait()
    return 0


async def at_once() -> int:
    return 1


@pytest.mark.parametrize(
    ("error", "ends", "kind", "why"),
    [
        (GuestSilent("no"), False, GuestSilent, "nothing answered in the guest within 1 s"),
        (GuestError("the guest answered with nonsense"), False, VmmError, "the guest answered with nonsense"),
        (None, True, VmmError, "the machine ended"),
    ],
)
def test_why_it_did_not_come_up(error: GuestError | None, ends: bool, kind: type[VmmError], why: str) -> None:
    async def greeted(patience: float) -> None:
        if error is None:
            await never()
        else:
            raise error

    machine: Any = SimpleNamespace(wait=at_once if ends else never, last_words=lambda: "the console's last line")
    channel: Any = SimpleNamespace(greeted=greeted)
    with pytest.raises(VmmError) as caught:
        asyncio.run(guest._answered(machine, channel, 1.0, booting=False))
    assert type(caught.value) is kind
    assert caught.value.brief == f"the guest did not come up: {why}"
    assert caught.value.details == "the console's last line"
