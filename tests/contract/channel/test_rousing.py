"""Timers of processors that were lost: when a guest is asked to set them again, and what is made of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from vmm.channel import rousing
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.channel.rousing import keep_roused

if TYPE_CHECKING:
    from conftest import Harness  # type: ignore[attr-defined]

DEADLINE_S = 20.0


@contextmanager
def kept(channel: Any, log: list[str]) -> Iterator[None]:
    task = asyncio.ensure_future(keep_roused(cast("GuestChannel", channel), log.append))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()


def test_a_guest_is_roused_while_something_is_open(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rousing, "LOOK_S", 0.02)
    monkeypatch.setattr(rousing, "EARLY_S", (0.05, 0.1, 0.15))

    async def run() -> None:
        async with asyncio.timeout(DEADLINE_S), harness.start_guestd() as guestd:
            asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            call = guestd.channel.call

            async def heard(op: str, timeout_s: float, **args: Any) -> dict[str, Any]:
                answer = await call(op, timeout_s, **args)
                await asked.put({op: answer})
                return answer

            monkeypatch.setattr(guestd.channel, "call", heard)
            with kept(guestd.channel, log := []):
                async with guestd.channel.open_exec(["cat"], user="", stdin=True) as command:
                    for _ in range(3):
                        assert await asked.get() == {"rouse": {"late": {}}}
                    command.close_stdin()
                    assert await command.wait() == 0
                guestd.channel.opened.clear()
                await harness.wait_until(lambda: not guestd.channel.streams)
                before = asked.qsize()
                await asyncio.sleep(0.3)  # nothing is open: so long nobody asks
                assert asked.qsize() == before and log == []

    asyncio.run(run())


class Liar:
    """A channel on which something has been open for long, and whose guest answers with whatever comes next."""

    def __init__(self, answers: list[object]) -> None:
        self.answers = answers
        self.opened = asyncio.Event()
        self.opened.set()
        self.done = asyncio.Event()

    @property
    def began(self) -> list[float]:
        return [asyncio.get_running_loop().time() - 3.0]

    async def call(self, op: str, timeout_s: float) -> object:
        if not self.answers:
            self.done.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, GuestError):
            raise answer
        return answer


def test_what_a_guest_says_of_its_processors_may_be_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rousing, "LOOK_S", 0.001)
    monkeypatch.setattr(rousing, "is_due", lambda ages: True)
    said = [{"late": {"1": 4.25}}, {}, {"late": 5}, {"late": {"x" * 9: 1, "-1": 1, "0": "\x1b[2J", "12345": 1}}]
    said += [{"late": {str(number): 1 for number in range(100)}}]

    async def run() -> list[str]:
        liar, log = Liar([GuestError("guestd knows no operation 'rouse'"), *said]), list[str]()
        with kept(liar, log):
            await asyncio.wait_for(liar.done.wait(), DEADLINE_S)
        return log

    log = asyncio.run(run())
    assert log[0] == "processor 1 of the machine had lost its timer for 4.2 s: it is set again"
    assert len(log) == 1 + 8 and all(line.isprintable() for line in log)


EARLY = (3.0, 5.9, 9.5, 31)
EACH_MINUTE = (60, 62, 600.5)


@pytest.mark.parametrize("age", [0.5, 2.9, *EARLY, 6.1, 50, *EACH_MINUTE, 64, 605])
def test_it_is_asked_early_and_then_each_minute(age: float) -> None:
    due = age in (*EARLY, *EACH_MINUTE)
    assert rousing.is_due([age]) is due and rousing.is_due([0.1, age]) is due
