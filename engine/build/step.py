"""A guest node's work: it runs inside a clone of its parent's snapshot, and what it leaves is saved as one.

No third-party code runs on the host, and the gateway holds each step to the endpoints it may reach.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from engine.build.context import BuildContext
from engine.build.foundation import DISK, load_base
from engine.errors import EngineError
from engine.gateway.journal import Journal
from engine.guest.advice import advice_on_refusals
from engine.guest.guest import Guest, Identity, open_guest
from engine.guest.services import run_logged
from engine.project.tree import ContentChanged, PathError
from engine.resolve.endpoints import Registries, client_files
from sandboxfile import Endpoint
from vmm.channel.answers import read, read_mapping
from vmm.disk import make_overlay
from vmm.errors import VmmError
from vmm.process import guarded_directory
from vmm.snapshot import Shape, load_snapshot, save_snapshot

VERSION = "1"  # of the steps: raise it when one of them makes something else of the same inputs
STEP_S = 3600.0
KEEP_FREE = 96 * 1024 * 1024  # what the guest keeps while its free memory is taken away, above what it uses


class Step(Protocol):
    """What is done in the guest between two snapshots, without the machine around it."""

    async def act(self, guest: Guest, context: BuildContext) -> None:
        """Raises EngineError and VmmError."""


@dataclass(frozen=True)
class InGuest:
    """Restore the machine of the node `parent` (None: boot one), let `step` act in it, save what it is then.

    `name` is the guest's hostname meanwhile, `endpoints` what it may reach.
    """

    step: Step
    name: str
    shape: Shape
    endpoints: tuple[Endpoint, ...] = ()
    parent: str | None = None

    async def build(self, context: BuildContext, /) -> None:
        async with self._guest(context) as guest:
            try:
                with advice_on_refusals(guest.gateway):
                    await self.step.act(guest, context)
            except (ContentChanged, PathError):
                raise  # nothing is wrong with the step: it did not get what it was to have
            except (EngineError, VmmError) as error:  # of the step itself, or of the guest: a timeout, an unknown user
                raise await _with_a_look(guest, context, error) from error
            await _save(guest, context, self.shape)

    @contextlib.asynccontextmanager
    async def _guest(self, context: BuildContext) -> AsyncIterator[Guest]:
        base = load_base(context.parents, self.shape)
        parent = load_snapshot(context.parents[self.parent]) if self.parent is not None else None
        disk = context.directory / "disk.qcow2"
        backing = context.parents["disk"] / DISK if parent is None else parent.disk
        await make_overlay(base.tools, disk, backing, "raw" if parent is None else "qcow2", relative=True)
        policy = Registries.of_image(context.parents["image"]).policy(self.endpoints)
        with (
            guarded_directory(context.sockets.directory),
            contextlib.closing(Journal(context.directory / "journal.jsonl")) as journal,
        ):
            async with open_guest(
                base,
                name=self.name,
                disk=disk,
                parent=parent,
                policy=policy,
                identity=Identity(self.name, files=client_files(self.endpoints)),
                runtime=context.sockets.directory,
                journal=journal,
                console_log=context.directory / "console.log",
                on_step=context.log,
            ) as guest:
                yield guest


async def execute(
    guest: Guest,
    context: BuildContext,
    argv: list[str],
    *,
    title: str,
    user: str = "root",
    cwd: str = "/",
    env: Mapping[str, str] | None = None,
    timeout_s: float = STEP_S,
) -> None:
    """Run `argv` in the guest with its output in the node's log; raises EngineError with the end of it."""
    await run_logged(guest.channel, context.log, argv, title=title, user=user, cwd=cwd, env=env, timeout_s=timeout_s)


async def _with_a_look(guest: Guest, context: BuildContext, error: EngineError | VmmError) -> EngineError:
    """The failure of a step; whoever asked for it has had a look at the guest by then, others are told how to."""
    failure = EngineError(error.brief, error.details, error.hint, getattr(error, "exit_code", 1))
    on_failure = context.session.on_failure if context.session else None
    if on_failure is not None and guest.channel.lost is None:
        await on_failure(guest, failure)
        return failure
    look = "`sandbox up --shell-on-failure` opens a shell in the guest as it was then"
    failure.hint = f"{error.hint}\n{look}" if error.hint else look
    return failure


async def _save(guest: Guest, context: BuildContext, shape: Shape) -> None:
    context.log("saving a snapshot")
    answer = await guest.channel.call("trim", timeout_s=120, paths=["/var/lib/docker"])
    memory = read_mapping(answer, "meminfo")
    used = (read(memory, "MemTotal", int) - read(memory, "MemAvailable", int)) * 1024
    await guest.machine.shrink_memory(used + KEEP_FREE)
    await save_snapshot(guest.machine, guest.memory, shape, context.directory)
