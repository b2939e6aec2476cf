"""A command's body, told to stop."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from engine.cli.running import run
from engine.errors import EngineError


async def told(number: signal.Signals, cleaned: list[str], *, turns_into: Exception | None = None) -> None:
    os.kill(os.getpid(), number)
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        if turns_into is not None:
            raise turns_into from None
        raise
    finally:
        cleaned.append(number.name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("turns_into", [None, EngineError("the machine went away")])
def test_every_signal_lets_it_clean_up(number: signal.Signals, turns_into: Exception | None) -> None:
    cleaned: list[str] = []
    with pytest.raises(SystemExit) as stop:
        run(told(number, cleaned, turns_into=turns_into))
    assert (stop.value.code, cleaned) == (128 + number, [number.name])
    assert signal.getsignal(number) is signal.SIG_DFL


def test_interrupted() -> None:
    cleaned: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(told(signal.SIGINT, cleaned))
    assert cleaned == ["SIGINT"]


def test_under_nohup_it_goes_on() -> None:
    async def hung_up() -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        return "went on"

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(hung_up()) == "went on"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_errors_and_results_pass() -> None:
    async def answer() -> int:
        return 42

    async def fail() -> None:
        raise EngineError("no")

    assert run(answer()) == 42
    with pytest.raises(EngineError):
        run(fail())
