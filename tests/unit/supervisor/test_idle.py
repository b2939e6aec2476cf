"""What counts as use of a sandbox, and how long its end is waited for."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field

import pytest

import engine.supervisor.idle
from engine.supervisor.idle import Use, processor_seconds, wait_idle
from sandboxfile.quantities import format_duration


def test_the_processor_time_of_this_process_grows() -> None:
    before = processor_seconds(os.getpid())
    while processor_seconds(os.getpid()) <= before:
        sum(range(10_000))
    assert processor_seconds(2**22 + 1) == 0.0


@dataclass
class Script:
    """A clock that a pause moves, and what is going on at each look."""

    going_on: list[str]
    now: float = 0.0
    looks: list[float] = field(default_factory=list)

    async def pause(self, seconds: float) -> None:
        self.now += seconds

    def use(self) -> Use:
        def happens(what: str) -> bool:
            return bool(self.going_on) and self.going_on[0] == what

        def published() -> int:
            self.looks.append(self.now)
            found = happens("port")
            if self.going_on:
                self.going_on.pop(0)
            return int(found)

        def counted(what: str) -> int:
            if happens(what):
                self.going_on.pop(0)
                self.looks.append(self.now)
                return 1
            return 0

        return Use(lambda: counted("stream"), lambda: counted("connection"), published, pid=2**22 + 1)


@pytest.mark.parametrize(
    ("going_on", "ends_at"),
    [
        ([], 600.0),
        (["port"], 660.0),
        (["stream", "connection", "port"], 780.0),
        (["nothing", "stream"], 720.0),
        (["nothing"] * 9 + ["stream"], 1200.0),
    ],
)
def test_the_time_counts_from_the_last_use(
    monkeypatch: pytest.MonkeyPatch, going_on: list[str], ends_at: float
) -> None:
    script = Script(list(going_on))
    monkeypatch.setattr(engine.supervisor.idle.asyncio, "sleep", script.pause)
    assert asyncio.run(wait_idle(script.use(), lambda: 600.0, clock=lambda: script.now)) == 600.0
    assert script.now == ends_at
    assert len(script.looks) == ends_at / 60


def test_the_time_can_be_set_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([])
    monkeypatch.setattr(engine.supervisor.idle.asyncio, "sleep", script.pause)
    limits = iter([None, None, 300.0])
    last: list[float | None] = [None]

    def limit() -> float | None:
        last[0] = next(limits, last[0])
        return last[0]

    assert asyncio.run(wait_idle(script.use(), limit, clock=lambda: script.now)) == 300.0
    assert script.now == 2 * engine.supervisor.idle.LONGEST_S + 300.0, "while there was no limit, no time was counted"


def test_a_guest_that_computes_is_in_use() -> None:
    use = Script([]).use()
    assert use.why(processor_s=30.0, period_s=60.0) == "the guest computes"
    assert use.why(processor_s=3.0, period_s=60.0) is None


@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 90, 3600, 5400, 86399, 90061])
def test_a_time_is_told_as_files_write_it(seconds: int) -> None:
    assert engine.supervisor.idle.spell(seconds + 0.2) == format_duration(seconds)
