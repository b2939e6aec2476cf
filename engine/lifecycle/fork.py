"""`fork`: more sandboxes that begin where a running one is now, services and all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.lifecycle.down import take_down
from engine.lifecycle.forks import new_fork
from engine.lifecycle.from_fork import (
    changed_file,
    copy_current_bases,
    launch_of,
    own_ports,
    read_launch,
    start_there,
    taken_ports,
)
from engine.lifecycle.room import available_memory
from engine.lifecycle.selection import check_running
from engine.report.sizes import size
from engine.state.configuration import load_running
from engine.state.instances import Instance, claim, hold_name, look_up
from vmm.channel.client import connect

if TYPE_CHECKING:
    from engine.state.configuration import Running
    from engine.state.instance_paths import ForkPaths
    from engine.state.layout import Layout
    from engine.supervisor.launch import Launch

FORK_S = 300.0  # a second for each gigabyte of memory; a slow disk may take minutes
MARGIN = 128 << 20  # bytes of memory that a clone takes soon, beside what it shares with the others


@dataclass(frozen=True)
class Written:
    """How a source was written: for how many seconds it stood still, and whether all of its programs did by then."""

    stood_still_s: float
    all_stood_still: bool

    def notes(self, name: str) -> Iterator[str]:
        """What the user of the source `name` should know of that."""
        if not self.all_stood_still:
            yield (
                f"not all programs of {name} stood still when it was written: for a moment they may draw the same "
                "random numbers there and in each sandbox that begins there"
            )


@dataclass(frozen=True)
class Forked:
    """The sandboxes that run now, how long the source stood still, and all of it, in seconds; what the user should
    know."""

    clones: tuple[Instance, ...]
    stood_still_s: float
    seconds: float
    notes: tuple[str, ...] = ()


async def fork(layout: Layout, name: str, count: int, on_event: Callable[[str], None]) -> Forked:
    """Start `count` sandboxes that begin where the running sandbox `name` is now; it runs on.

    Each has a name, an identity, randomness, a gateway, ports and a disk of its own, and may reach what the source may.
    `on_event` is told what happens. Waits up to FORK_S for the memory to be written. Raises EngineError and VmmError:
    then none of the new sandboxes is left, and the source runs.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(new_fork(layout))
        held = stack.enter_context(contextlib.ExitStack())
        held.enter_context(hold_name(layout, name))
        source = forkable(layout, name)
        _check_memory(source, count)
        running = load_running(layout, name)
        names = stack.enter_context(_claimed(layout, source, count))
        written = Written(0.0, True)

        async def write() -> list[Launch]:
            nonlocal written
            with held:
                on_event(f"writing down what {name} is now")
                await copy_current_bases(layout.instance(name).clones, there.clones)
                written = await write_fork(layout, name, there)
            launch, taken = read_launch(there), taken_ports(layout)
            return [launch_of(launch, there, each, own_ports(launch.forwards, taken)) for each in names]

        clones = await _start_all(layout, source, running, names, write(), on_event)
    notes = (*written.notes(name), *changed_file(source, running, "the clones run" if count > 1 else "the clone runs"))
    return Forked(clones, written.stood_still_s, time.monotonic() - began, notes)


def forkable(layout: Layout, name: str) -> Instance:
    """The record of a sandbox that can be forked. Raises EngineError for one that does not run or has a live mount."""
    source, _ = check_running(layout, look_up(layout, name))
    if source.mounts:
        targets = ", ".join(str(mount["target"]) for mount in source.mounts)
        raise EngineError(
            f"{name} has live mounts ({targets}): two machines would write into one directory of this host at once",
            hint="`mode: clone` on a mount gives each sandbox a copy of its own; `sandbox up --recreate` applies it",
        )
    return source


async def write_fork(layout: Layout, name: str, there: ForkPaths) -> Written:
    """Have the supervisor of the running sandbox `name` write what it is now. The caller holds the name.

    Raises EngineError and VmmError.
    """
    async with await connect(layout.instance(name).sockets.control) as client:
        answer = await client.call("fork", timeout_s=FORK_S, fork=str(there.directory.name))
    # A supervisor of an older version does not say whether they did: that is no yes.
    return Written(float(answer["stood_still_s"]), answer.get("all_stood_still") is True)


def _check_memory(source: Instance, count: int) -> None:
    needed, free = count * MARGIN, available_memory()
    if free is not None and needed > free:
        what = "a clone" if count == 1 else f"{count} clones"
        raise EngineError(
            f"{what} of {source.name} would need {size(needed)} of memory or more, and {size(free)} are free",
            hint="`sandbox pause` makes another sandbox wait on the disk",
        )


@contextlib.contextmanager
def _claimed(layout: Layout, source: Instance, count: int) -> Iterator[list[str]]:
    """Hold the next `count` names that are free."""
    with contextlib.ExitStack() as stack:
        names: list[str] = []
        number = 1
        while len(names) < count:
            number += 1
            name = f"{source.name}-{number}"
            if layout.instance(name).directory.exists():
                continue
            with contextlib.suppress(EngineError):  # another command has it just now
                if stack.enter_context(claim(layout, name, Path(source.project))) is None:
                    names.append(name)
        yield names


async def _start_all(
    layout: Layout,
    source: Instance,
    running: Running | None,
    names: list[str],
    writing: Awaitable[list[Launch]],
    on_event: Callable[[str], None],
) -> tuple[Instance, ...]:
    """All of them or, where one fails, none. Their supervisors load their modules while what they are to start is
    written."""
    loop = asyncio.get_running_loop()
    launching: list[asyncio.Future[Launch]] = [loop.create_future() for _ in names]
    starting = [
        asyncio.ensure_future(start_there(layout, source, running, name, launch, on_event))
        for name, launch in zip(names, launching, strict=True)
    ]
    try:
        for future, launch in zip(launching, await writing, strict=True):
            future.set_result(launch)
        return tuple(await asyncio.gather(*starting))
    except BaseException:
        for each in starting:
            each.cancel()
        ended = await asyncio.gather(*starting, return_exceptions=True)
        for name, one in zip(names, ended, strict=True):
            if isinstance(one, Instance):
                await take_down(layout, look_up(layout, name))
        raise
