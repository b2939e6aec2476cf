"""`machine.network_rate`: all connections of a guest together go at one pace, and what they carry is whole."""

from __future__ import annotations

import asyncio
import os

import pytest
from gateway_world import client_hello, echo, in_loop, world

from engine.gateway import pace
from engine.gateway.pace import Pace
from engine.gateway.rules import Rule

RATE = 256 << 10
SENT = os.urandom(64 << 10)


class Clock:
    """A loop's time, in which nobody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace.asyncio, "get_running_loop", lambda: clock)
    monkeypatch.setattr(pace.asyncio, "sleep", clock.sleep)
    return clock


def test_what_went_through_is_paid_for_in_time(clock: Clock) -> None:
    async def scenario() -> None:
        one = Pace(1000)
        for _ in range(10):
            await one.ready()
            one.spend(500)
        assert clock.now == pytest.approx(1004.5)
        one.rate = None
        await one.ready()
        one.spend(1 << 40)
        assert clock.now == pytest.approx(1004.5)
        one.rate = 1000
        await one.ready()
        assert clock.now == pytest.approx(1005.0), "what went through without a rate is not paid for"

    try:
        scenario().send(None)
    except StopIteration:
        return
    pytest.fail("it waited for something else than the clock")


def test_several_connections_share_it_and_lose_nothing() -> None:
    async def scenario() -> None:
        async with world(Rule("api.example.com"), handler=echo) as w:
            w.gateway.pace(RATE)

            async def talk() -> None:
                hello = client_hello("api.example.com")
                async with w.guest(443) as (reader, writer):
                    writer.write(hello + SENT)
                    writer.write_eof()
                    assert await reader.read(-1) == hello + SENT

            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(talk() for _ in range(3)))
            took_s = asyncio.get_running_loop().time() - began
            # Both ways of all three; what was sent last is not waited for.
            assert took_s >= (6 * len(SENT) - 2 * 3 * RATE * 0.05 - (192 << 10)) / RATE

    in_loop(scenario())


def test_a_new_pace_counts_for_connections_that_are_open() -> None:
    async def scenario() -> None:
        async with world(Rule("api.example.com"), handler=echo) as w, w.guest(443) as (reader, writer):
            w.gateway.pace(64 << 10)
            hello = client_hello("api.example.com")
            writer.write(hello + bytes(4 << 20))  # more than a minute's worth
            await reader.readexactly(len(hello))
            w.gateway.pace(None)
            await reader.readexactly(4 << 20)

    in_loop(scenario())
