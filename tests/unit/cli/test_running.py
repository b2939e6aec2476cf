"""A command's body, told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading

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


STUCK = """
import asyncio, signal, sys, time
from engine.cli import running
running.CLEANING_S, running.INSISTED_S = float(sys.argv[1]), float(sys.argv[2])

async def main():
    asyncio.get_running_loop().call_soon(lambda: print("ready", flush=True))
    try:
        await asyncio.to_thread(time.sleep, 1000)  # a disk that does not answer
    finally:
        print("told", flush=True)

running.run(main())
"""


def stuck(cleaning_s: float, insisted_s: float) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", STUCK, str(cleaning_s), str(insisted_s)]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_what_hangs(first: signal.Signals, second: signal.Signals) -> None:
    with stuck(1000, 0.1) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(first)
        assert process.stdout.readline() == "told\n"
        assert process.poll() is None
        while process.poll() is None:  # the second within SAME_S of the first is the same one
            process.send_signal(second)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        assert process.returncode == 128 + second
        assert process.stderr is not None and "something hangs" in process.stderr.read()


def test_one_signal_ends_what_hangs_in_the_end() -> None:
    with stuck(0.1, 1000) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(40) == 128 + signal.SIGTERM


# Room for the selector of its loop, and for no more.
WITHOUT_DESCRIPTORS = """
import asyncio, os, resource, sys
from engine.cli.boundary import guarded
from engine.cli.running import run
async def main():
    print("it ran")
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, free + 1))
sys.exit(guarded(lambda: run(main())))
"""


def test_without_descriptors_it_says_so_in_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_DESCRIPTORS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: Too many open files\n")


def test_what_is_done_is_done_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> int:
        await asyncio.to_thread(lambda: None)
        starts = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", fail)  # Python starts one to wait for those that are idle
        loop = asyncio.get_running_loop()
        end = loop.shutdown_default_executor

        async def ended() -> None:
            try:
                await end()
            finally:
                monkeypatch.setattr(threading.Thread, "start", starts)

        monkeypatch.setattr(loop, "shutdown_default_executor", ended)
        return 7

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    assert run(work()) == 7
