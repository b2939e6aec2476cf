"""All processes of one session: end them, also those whose leader is gone. Linux only; elsewhere the process group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

KILLED_S = 10.0  # a killed process that stays longer hangs in the kernel; waiting for it helps nobody


async def end_session(leader: int, *, reaped: Callable[[], bool], grace_s: float) -> None:
    """Send TERM to every process of the session, after `grace_s` seconds KILL, and wait until they are gone.

    `reaped` says whether somebody has collected the leader's exit code, after which its number may belong to others.
    Zombies count as gone. Being cancelled ends the patience: KILL at once, then CancelledError.
    """
    try:
        gone = await _tell(leader, reaped, signal.SIGTERM, grace_s)
    except asyncio.CancelledError:
        await _tell(leader, reaped, signal.SIGKILL, KILLED_S)
        raise
    if not gone:
        await _tell(leader, reaped, signal.SIGKILL, KILLED_S)


async def _tell(leader: int, reaped: Callable[[], bool], number: signal.Signals, limit_s: float) -> bool:
    """Send the signal to each member once; returns whether all that we may signal were gone within `limit_s`."""
    try:
        async with asyncio.timeout(limit_s):
            if sys.platform == "linux":
                await _tell_members(leader, reaped, number)
            else:
                await _tell_group(leader, reaped, number)
    except TimeoutError:
        return False
    except OSError:  # no /proc here, no pidfds, no descriptors left: then it gets no time to end by itself
        if not reaped():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
    return True


async def _tell_group(leader: int, reaped: Callable[[], bool], number: signal.Signals) -> None:
    if not reaped():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, number)
    while not reaped():  # noqa: ASYNC110 - there is no event for it that every system has
        await asyncio.sleep(0.05)


async def _tell_members(leader: int, reaped: Callable[[], bool], number: signal.Signals) -> None:
    told: set[int] = set()
    refused: set[int] = set()
    # Again and again, because a member may have forked behind our reading of /proc.
    while members := [pid for pid in _living_members(leader, reaped()) if pid not in refused]:
        with contextlib.ExitStack() as stack:
            holds = []
            for pid in members:
                if (hold := _hold(pid, leader)) is None:
                    continue
                stack.callback(os.close, hold)
                try:
                    if pid not in told:
                        told.add(pid)
                        _send(hold, number)
                    holds.append(hold)
                except PermissionError:
                    refused.add(pid)  # another user's, by sudo
            for hold in holds:
                await _readable(hold)
        await asyncio.sleep(0)


def _living_members(session: int, reaped: bool) -> list[int]:
    # The kernel gives no number to a new process while it is still somebody's session. So once the leader was reaped,
    # a process of that number is a stranger, and proves that nobody of the old session lives.
    if reaped and Path(f"/proc/{session}").exists():
        return []
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _session(name) == session]  # noqa: PTH208


def _session(pid: str | int) -> int | None:
    """The session of a living process; None for zombies and for those that are gone."""
    try:
        # pid (comm) state ppid pgrp session ...: comm may hold anything, so count from the last bracket.
        state, _, _, session = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return None if state in (b"Z", b"X") else int(session)


def _hold(pid: int, session: int) -> int | None:
    """A descriptor of the process, or None if it is gone: the number may be another's since we read it."""
    assert sys.platform == "linux"
    try:
        hold = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if _session(pid) != session:
        os.close(hold)
        return None
    return hold


def _send(hold: int, number: signal.Signals) -> None:
    assert sys.platform == "linux"
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(hold, number)


async def _readable(descriptor: int) -> None:
    """A process's descriptor becomes readable when it ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
