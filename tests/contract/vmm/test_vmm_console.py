"""The console: bounded on disk and in memory, and always read, whatever the disk says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from vmm import console as module
from vmm.console import TAIL_LINES, Console
from vmm.machine import _finish as finish_reading

Runner = Callable[..., Any]


@contextlib.asynccontextmanager
async def reading(log: Path | None) -> AsyncIterator[tuple[Console, socket.socket, asyncio.Task[None]]]:
    """A console whose reader runs; the guest's end; the reader's task. The guest's end is closed on leaving."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        console = Console(ours, log)
        task = asyncio.create_task(console.read())
        try:
            yield console, theirs, task
        finally:
            theirs.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def say(guest: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(guest, data)


def test_the_log_has_every_byte_and_the_tail_the_last_lines(run_clean: Runner, tmp_path: Path) -> None:
    text = b"".join(b"line %d\r\n" % number for number in range(1000)) + b"caf\xc3\xa9 \xff half"

    async def main() -> str:
        async with reading(tmp_path / "log") as (console, guest, task):
            for start in range(0, len(text), 7):
                await say(guest, text[start : start + 7])
            guest.close()
            await task
            return console.last_words()

    lines = run_clean(main()).splitlines()
    assert (tmp_path / "log").read_bytes() == text
    assert lines == [f"line {number}" for number in range(1000 - TAIL_LINES, 1000)] + ["café \ufffd half"]


def test_the_log_is_bounded(run_clean: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 100_000)
    log, old = tmp_path / "console.log", tmp_path / "console.old.log"

    async def main() -> None:
        async with reading(log) as (_, guest, task):
            for number in range(70):
                await say(guest, b"%09d\n" % number * 1000)
                assert log.stat().st_size <= 100_000 if log.exists() else True
            guest.close()
            await task

    run_clean(main())
    assert 0 < log.stat().st_size <= 100_000
    assert 0 < old.stat().st_size <= 100_000
    assert (old.read_bytes() + log.read_bytes()).endswith(b"%09d\n" % 68 * 1000 + b"%09d\n" % 69 * 1000)
    assert sorted(path.name for path in tmp_path.glob("console*")) == ["console.log", "console.old.log"]


def test_what_earlier_machines_left_in_the_log_counts(
    run_clean: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 1000)
    log = tmp_path / "console.log"

    async def main() -> None:
        async with reading(log) as (_, guest, task):
            await say(guest, b"x" * 600)
            guest.close()
            await task

    for _ in range(4):
        run_clean(main())
    assert log.stat().st_size == 600


@pytest.mark.parametrize("log", ["/dev/full", "/no/such/directory/log"])
def test_a_log_that_cannot_be_written_does_not_stop_the_guest(run_clean: Runner, log: str) -> None:
    async def main() -> str:
        async with reading(Path(log)) as (console, guest, task):
            await asyncio.wait_for(say(guest, b"much\n" * 200_000), 20)  # far more than a socket holds
            await say(guest, b"the end\n")
            guest.close()
            await task
            return console.last_words()

    assert run_clean(main()).endswith("\nthe end")


def test_wait_for_sees_what_was_said_and_what_comes(run_clean: Runner) -> None:
    async def main() -> None:
        async with reading(None) as (console, guest, _):
            await say(guest, b"[1] Kernel pa")
            assert await console.wait_for("Kernel", 20) == "[1] Kernel pa"
            later = asyncio.create_task(console.wait_for("panic", 20))
            await say(guest, b"nic - not syncing\n[2] more\n")
            assert await later == "[1] Kernel panic - not syncing"
            assert await console.wait_for("panic", 20) == "[1] Kernel panic - not syncing"

    run_clean(main())


def test_wait_for_has_a_deadline(run_clean: Runner) -> None:
    async def main() -> None:
        async with reading(None) as (console, guest, _):
            await say(guest, b"something else\n")
            with pytest.raises(TimeoutError):
                await console.wait_for("panic", 0.05)

    run_clean(main())


def test_an_endless_line_takes_no_memory(run_clean: Runner) -> None:
    async def main() -> str:
        async with reading(None) as (console, guest, task):
            await say(guest, b"x" * 1_000_000)
            guest.close()
            await task
            return console.last_words()

    assert len(run_clean(main())) == 4096


def test_a_reset_is_an_end(run_clean: Runner) -> None:
    """Closing a socket with unread data resets the other end."""

    async def main() -> None:
        async with reading(None) as (console, guest, task):
            await say(guest, b"last\n")
            await console.wait_for("last", 20)
            console._connection.send(b"unread")
            guest.close()
            await asyncio.wait_for(task, 20)

    run_clean(main())


def test_a_machines_last_words_are_read_after_its_end(run_clean: Runner) -> None:
    async def main() -> str:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            console = Console(ours, None)
            reader = asyncio.create_task(console.read())
            theirs.sendall(b"line\n" * 1000 + b"Kernel panic\n")
            await finish_reading(reader, theirs)
            return console.last_words()

    assert run_clean(main()).endswith("Kernel panic")


def test_a_console_that_somebody_still_holds_does_not_hold_us(
    run_clean: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmm.machine.LAST_WORDS_S", 0.05)

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, theirs.dup():
            reader = asyncio.create_task(Console(ours, None).read())
            await finish_reading(reader, theirs)
            assert reader.cancelled()

    run_clean(main())
