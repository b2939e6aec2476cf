"""`run --parallel`: one task for several agents of one snapshot, each in a machine of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError
from engine.lifecycle.members import Member, Members
from engine.lifecycle.room import available_memory
from engine.lifecycle.task import Done, Task, name_of_run, run_task
from sandboxfile import SandboxfileError
from sandboxfile.quantities import format_size
from vmm.errors import VmmError

if TYPE_CHECKING:
    from engine.lifecycle.audience import Audience
    from engine.lifecycle.up import Agreed
    from engine.state.layout import Layout

MOST = 64


@dataclass(frozen=True)
class Ran:
    """What became of number `number`: how its task went, or why there was none."""

    number: int
    sandbox: str
    done: Done | None
    error: EngineError | None = None

    @property
    def code(self) -> int:
        if self.done is not None:
            return self.done.code
        return self.error.exit_code if self.error is not None else 1

    def to_json(self) -> dict[str, Any]:
        if self.done is not None:
            return {"number": self.number, **self.done.to_json()}
        error = self.error
        said = {"brief": error.brief, "details": error.details, "hint": error.hint} if error is not None else {}
        return {"number": self.number, "version": 1, "sandbox": self.sandbox, "exit": self.code, "error": said}


def several(member: Member, count: int, *, shared: bool) -> tuple[Member, ...]:
    """`count` machines for the member, each with a name of its own.

    Raises EngineError (exit code 2) for more than this host has memory for, and where several agents would write in
    one directory of the host, unless the user wants that (`shared`).
    """
    if not 1 <= count <= MOST:
        raise EngineError(f"--parallel takes a number from 1 to {MOST}", exit_code=2)
    if count > 1:
        _check_mounts(member, count, shared)
        _check_memory(member, count)
    return tuple(member._replace(name=name_of_run(member.name)) for _ in range(count))


async def run_tasks(
    plan: Agreed, task: Task, layout: Layout, audience: Audience, on_stderr: Callable[[int, bytes], None]
) -> list[Ran]:
    """Have each of the plan's sandboxes do the task; one that fails ends no other.

    Machines are brought up one after another, and their agents work at the same time. `on_stderr` gets a number and
    what that agent prints. Cancelled, it takes down what has been started.
    """
    starting = asyncio.Lock()

    async def one(number: int) -> Ran:
        intent = plan.intents[number - 1]
        alone = replace(plan, intents=(intent,))
        try:
            done = await run_task(alone, task, layout, audience, lambda data: on_stderr(number, data), starting)
        except (EngineError, VmmError, OSError) as error:
            return Ran(number, intent.name, None, EngineError.of(error))
        except SandboxfileError as error:
            return Ran(number, intent.name, None, EngineError(str(error), exit_code=2))
        return Ran(number, intent.name, done)

    tasks = [asyncio.create_task(one(number)) for number in range(1, len(plan.intents) + 1)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def members_of(whole: Members, member: Member, count: int, *, shared: bool) -> Members:
    """The file's part for so many machines: the user is asked once for all of them."""
    return Members(whole.whole, several(member, count, shared=shared))


def _check_mounts(member: Member, count: int, shared: bool) -> None:
    live = [mount for mount in member.loaded.sandbox.mounts if mount.mode == "rw"]
    if live and not shared:
        raise EngineError(
            f"{count} agents would write in {live[0].target} at once: it is one live directory of this host",
            hint="--yes-shared does it all the same; `:ro` at the end of the mount keeps them from writing",
            exit_code=2,
        )


def _check_memory(member: Member, count: int) -> None:
    needed, free = count * member.loaded.sandbox.machine.memory, available_memory()
    if free is not None and needed > free:
        fits = max(free // member.loaded.sandbox.machine.memory, 1)
        raise EngineError(
            f"{count} machines need {format_size(needed)} of memory, and {free >> 20} MiB of this host are free",
            hint=f"--parallel {fits} fits, or a smaller machine.memory",
            exit_code=2,
        )
