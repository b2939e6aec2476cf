"""`down`: end a sandbox and remove everything it left, whatever state it is in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable

from engine.errors import EngineError
from engine.state.instances import Listed, forget_instance, hold_name, look_up, takes_connection
from engine.state.layout import Layout
from engine.state.processes import is_same_process
from vmm.channel.client import connect
from vmm.errors import VmmError

ASK_S = 2.0  # beyond it a signal says the same
END_S = 20.0  # QEMU flushes, the file servers let go: well below a second when nothing is stuck
INSIST_S = 3.0
POLL_S = 0.02


async def bring_down(layout: Layout, name: str) -> None:
    """End the sandbox `name` and remove its files, also while an `up` is starting it: that one fails then.

    Waits as `take_down` does, and then up to END_S for such an `up` to let go of the name. Raises EngineError.
    """
    await _end_supervisor(layout, look_up(layout, name))
    async with _held(layout, name):
        # Between the end and the lock an `up` may have come, whose sandbox is not the one that was meant.
        if look_up(layout, name).liveness not in ("starting", "running"):
            forget_instance(layout, name)


async def take_down(layout: Layout, listed: Listed) -> None:
    """The same for a caller that holds the name (`claim`).

    Waits up to END_S for a supervisor that was asked, and INSIST_S for each signal that it gets after that. Raises
    EngineError.
    """
    await _end_supervisor(layout, listed)
    forget_instance(layout, listed.name)


async def _end_supervisor(layout: Layout, listed: Listed) -> None:
    control = layout.instance(listed.name).sockets.control
    asked = False
    with contextlib.suppress(VmmError, OSError):
        async with await connect(control, timeout_s=ASK_S) as client:
            await client.call("down", timeout_s=ASK_S)
            asked = True
    record = listed.instance
    if record is None or record.pid is None or record.process is None:
        # Its record is damaged: whether it still accepts is all that can be known of its supervisor.
        if asked and not await _until(lambda: not takes_connection(control), END_S):
            raise EngineError(f"the supervisor of {listed.name} does not end")
        return
    pid, process = record.pid, record.process

    def has_ended() -> bool:
        return not is_same_process(pid, process)

    if asked and await _until(has_ended, END_S):
        return
    # One that is still starting has no socket yet, one that is stuck does not answer on it.
    for number in (signal.SIGTERM, signal.SIGKILL):
        if has_ended():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        await _until(has_ended, INSIST_S)
    if not has_ended():
        raise EngineError(f"the supervisor of {listed.name} (process {pid}) does not end")


@contextlib.asynccontextmanager
async def _held(layout: Layout, name: str) -> AsyncIterator[None]:
    """`hold_name`, waiting up to END_S for whoever has it. Raises EngineError."""
    deadline = time.monotonic() + END_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(hold_name(layout, name))
                break
            except EngineError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(POLL_S)
        yield


async def _until(check: Callable[[], bool], timeout_s: float) -> bool:
    """What `check` said last: True as soon as it does, False after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (good := check()) and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(POLL_S)
    return good
