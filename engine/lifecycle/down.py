"""`down`: end a sandbox, whatever its state, and remove everything that it left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from engine.errors import EngineError
from engine.scarcity import is_scarcity
from engine.state.instances import Instance, Listed, forget_instance, hold_name, look_up, takes_connection
from engine.state.layout import Layout
from engine.state.processes import is_same_process
from engine.supervisor.held_ports import end_waker
from vmm.channel.client import connect
from vmm.channel.guest import GuestChannel
from vmm.errors import VmmError
from vmm.processor_share import sweep

ASK_S = 2.0  # how long the supervisor may take to answer; after that it gets a signal
KEEP_S = 20.0  # how long it may take to save what is kept of its agent
END_S = 20.0  # how long it may take to end: QEMU flushes its disk, which takes well below a second unless it is stuck
INSIST_S = 3.0  # how long it may take to end after a signal
SCARCE_S = 10.0  # how long to wait for descriptors or memory: others may give some back
POLL_S = 0.02


async def bring_down(layout: Layout, name: str, *, volumes: bool = False) -> str | None:
    """End the sandbox `name` and remove its files. If an `up` is starting that sandbox just now, the `up` fails.

    With `volumes`, what is kept of its agent goes, too. Returns why what was to be kept is not; None when it is, or
    there is nothing. Waits as `take_down` does, and then up to END_S until such an `up` releases the name. Raises
    EngineError.
    """
    listed = look_up(layout, name)
    end_waker(layout.waker(name))
    lost = await _end_supervisor(layout, listed, keep=not volumes)
    if volumes and listed.instance is not None:
        layout.project_kept(Path(listed.instance.project), name).unlink(missing_ok=True)
    async with held(layout, name):
        # After the old supervisor had ended, and before we held the name, another `up` may have started a new sandbox.
        # That sandbox is not the one to remove.
        if look_up(layout, name).liveness not in ("starting", "running"):
            await _forget(layout, name)
    return lost


async def take_down(layout: Layout, listed: Listed) -> str | None:
    """End a sandbox and remove its files, for a caller that holds the name already (`claim`).

    Returns why what was to be kept of its agent is not, None when it is. Waits KEEP_S for that, up to END_S for the end
    of a supervisor that has answered, and then INSIST_S after each signal to it, and SCARCE_S for descriptors. Raises
    EngineError and OSError.
    """
    end_waker(layout.waker(listed.name))
    lost = await _end_supervisor(layout, listed)
    await _forget(layout, listed.name)
    return lost


async def _forget(layout: Layout, name: str) -> None:
    """Remove the files of a sandbox that has ended, and what it had in common with others, if nobody else needs it.

    Where this process has too little to do so, waits up to SCARCE_S, and then raises OSError.
    """
    until = time.monotonic() + SCARCE_S
    while True:
        try:
            forget_instance(layout, name)
            _forget_shared(layout)
            return
        except OSError as error:
            if not is_scarcity(error) or time.monotonic() > until:
                raise
        await asyncio.sleep(POLL_S)


def _forget_shared(layout: Layout) -> None:
    sweep(layout.group())
    if layout.forks.is_dir():
        from engine.lifecycle.forks import sweep_forks

        sweep_forks(layout)


def forget_kept(layout: Layout, project: Path) -> list[str]:
    """Remove what is kept of sandboxes of the project, none of which runs. Returns their names."""
    found = layout.all_kept(project)
    for path in found:
        path.unlink(missing_ok=True)
    return [path.stem.removeprefix("kept-") for path in found]


async def keep_sessions(client: GuestChannel) -> str | None:
    """Have the supervisor save what is kept of its agent. Returns why it has not."""
    try:
        lost = (await client.call("keep", timeout_s=KEEP_S)).get("lost")
    except VmmError as error:
        return error.brief
    return str(lost) if lost else None


async def _end_supervisor(layout: Layout, listed: Listed, *, keep: bool = True) -> str | None:
    """Returns why what was to be kept is not."""
    control = layout.instance(listed.name).sockets.control
    asked, lost = False, None
    with contextlib.suppress(VmmError, OSError):
        async with await connect(control, timeout_s=ASK_S) as client:
            if keep and listed.instance is not None and listed.instance.keeps is not None:
                lost = await keep_sessions(client)
            await client.call("down", timeout_s=ASK_S, keep=False)
            asked = True
    await _end_process(layout, listed, control, asked)
    return lost


async def wait_for_end(name: str, record: Instance) -> None:
    """Wait up to END_S for the end of a supervisor that has been asked to. Raises EngineError."""
    pid, process = record.pid, record.process
    if pid is None or process is None or await _until(lambda: _is_gone(pid, process), END_S):
        return
    raise EngineError(f"the supervisor of {name} (process {pid}) does not end")


async def _end_process(layout: Layout, listed: Listed, control: Path, asked: bool) -> None:
    record = listed.instance
    if record is None or record.pid is None or record.process is None:
        # The record is damaged, so the supervisor's pid is unknown. Its socket is all that shows whether it has ended.
        if asked and not await _until(lambda: not takes_connection(control), END_S):
            raise EngineError(f"the supervisor of {listed.name} does not end")
        return
    pid, process = record.pid, record.process

    def has_ended() -> bool:
        return _is_gone(pid, process)

    if asked and await _until(has_ended, END_S):
        return
    # A supervisor that is still starting has no socket yet, and one that is stuck does not answer.
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not await _is_there(pid, process):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        await _until(has_ended, INSIST_S)
    if await _is_there(pid, process):
        raise EngineError(f"the supervisor of {listed.name} (process {pid}) does not end")


async def _is_there(pid: int, process: str) -> bool:
    """Whether it is that process and no other one, which must not get its signal. Waits up to SCARCE_S where there is
    too little of something to look, and then raises OSError."""
    until = time.monotonic() + SCARCE_S
    while True:
        try:
            return is_same_process(pid, process)
        except OSError:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(POLL_S)


def _is_gone(pid: int, process: str) -> bool:
    """False also where there is too little of something to look."""
    try:
        return not is_same_process(pid, process)
    except OSError:
        return False


@contextlib.asynccontextmanager
async def held(layout: Layout, name: str) -> AsyncIterator[None]:
    """Hold the name as `hold_name` does, but wait up to END_S for another command to release it. Raises EngineError."""
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
    """Wait up to `timeout_s` until `check` returns True; returns its last answer."""
    deadline = time.monotonic() + timeout_s
    while not (done := check()) and time.monotonic() < deadline:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(POLL_S)
    return done
