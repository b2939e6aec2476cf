"""The guest's programs standing still for the length of a block: what is believed of the guest, and that they go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_guest import FakeGuest

from vmm.channel import freezing, guest
from vmm.channel.errors import GuestError
from vmm.channel.freezing import frozen
from vmm.guest.guestd.freezer import FROZEN_S, THAW_S
from vmm.guest.guestd.wire import Frame


class SilentGuest(FakeGuest):
    """Its answer to `freeze` does not come."""

    def deliver(self, frame: Frame) -> None:
        if self.asked[-1].op != "freeze":
            super().deliver(frame)


@pytest.mark.parametrize(
    ("answer", "stood_still"),
    [
        ({"groups": 3, "frozen": True}, True),
        ({"groups": 3, "frozen": False}, False),
        ({}, False),
        ({"frozen": "no"}, False),
        (GuestError("guestd knows no operation 'freeze'"), False),
    ],
)
def test_whether_all_stood_still_is_what_the_guest_says(answer: dict[str, Any] | GuestError, stood_still: bool) -> None:
    async def scenario() -> None:
        guest = FakeGuest()
        guest.answer_call("freeze", answer)
        async with frozen(guest) as still:
            assert still is stood_still and [asked.op for asked in guest.asked] == ["freeze"]
        assert [asked.op for asked in guest.asked] == ["freeze", "thaw"]

    asyncio.run(scenario())


def test_of_a_guest_that_is_silent_nothing_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "FREEZE_S", 0.05)
    monkeypatch.setattr(guest, "ANSWER_MARGIN_S", 0.05)

    async def scenario() -> None:
        silent = SilentGuest()
        async with asyncio.timeout(20), frozen(silent) as still:
            assert still is False
        assert [asked.op for asked in silent.asked] == ["freeze", "thaw"], "it may freeze them late"

    asyncio.run(scenario())


def test_one_that_is_given_up_thaws() -> None:
    async def scenario() -> None:
        silent = SilentGuest()

        async def block() -> None:
            async with frozen(silent):
                pytest.fail("it does not come so far")

        task = asyncio.create_task(block())
        while not silent.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 20)
        assert [asked.op for asked in silent.asked] == ["freeze", "thaw"]

    asyncio.run(scenario())


def test_who_waits_longer_than_whom() -> None:
    """The host than the guest, so that it hears that not all stood still; and no programs go on while it waits."""
    assert 4.0 <= FROZEN_S < freezing.FREEZE_S and freezing.FREEZE_S + guest.ANSWER_MARGIN_S < THAW_S
