"""What counts as use of a sandbox, and how long its end is waited for."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field

import pytest

import engine.supervisor.idle
from engine.supervisor.idle import Use, processor_seconds, published_connections, wait_idle
from sandboxfile.quantities import format_duration

# As QEMU 10 prints it: a listening port, a connection from the host, one to the gateway, a datagram.
USERNET = """Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  25       127.0.0.1 18080       10.0.2.15  8080     0     0
  TCP[{state}]   41       127.0.0.1 18080       10.0.2.15  8080     0     0
  TCP[ESTABLISHED]   40       10.0.2.15 41234     10.0.2.100   443     0     0
  UDP[236 sec]       37       10.0.2.15  5353       10.0.2.3    53     0     0
"""


@pytest.mark.parametrize(("state", "count"), [("ESTABLISHED", 1), ("CLOSE_WAIT", 0), ("TIME_WAIT", 0)])
def test_only_open_connections_from_the_host_count(state: str, count: int) -> None:
    assert published_connections(USERNET.format(state=state)) == count


@pytest.mark.parametrize("text", ["", "nonsense", "TCP[ESTABLISHED]", "TCP[ESTABLISHED] 1 2"])
def test_other_text_is_no_connection(text: str) -> None:
    assert published_connections(text) == 0


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

        async def usernet() -> str:
            self.looks.append(self.now)
            found = USERNET.format(state="ESTABLISHED") if happens("port") else ""
            if self.going_on:
                self.going_on.pop(0)
            return found

        def counted(what: str) -> int:
            if happens(what):
                self.going_on.pop(0)
                self.looks.append(self.now)
                return 1
            return 0

        return Use(lambda: counted("stream"), lambda: counted("connection"), usernet, pid=2**22 + 1)


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
    assert asyncio.run(use.why(processor_s=30.0, period_s=60.0)) == "the guest computes"
    assert asyncio.run(use.why(processor_s=3.0, period_s=60.0)) is None


@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 90, 3600, 5400, 86399, 90061])
def test_a_time_is_told_as_files_write_it(seconds: int) -> None:
    assert engine.supervisor.idle.spell(seconds + 0.2) == format_duration(seconds)
