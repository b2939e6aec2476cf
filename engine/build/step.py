"""The work of a guest node: run a step in a clone of the parent's snapshot, and save the machine as a new snapshot.

No third-party code runs on the host, and the gateway lets each step reach its own endpoints only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from engine.build.context import BuildContext
from engine.build.foundation import DISK, load_base
from engine.errors import EngineError
from engine.gateway.host_proxies import host_variables
from engine.gateway.journal import Journal
from engine.gateway.proxies import Proxies
from engine.guest.advice import advice_on_refusals
from engine.guest.guest import Guest, open_guest
from engine.guest.identity import Identity
from engine.guest.services import run_logged
from engine.project.tree import ContentChanged, PathError
from engine.resolve.endpoints import Registries, client_files
from sandboxfile import Endpoint
from vmm.channel.answers import read, read_mapping
from vmm.channel.errors import GuestError
from vmm.channel.small_tree import write_small
from vmm.disk import make_overlay
from vmm.errors import VmmError
from vmm.process import guarded_directory
from vmm.snapshot import Shape, load_snapshot, save_snapshot

VERSION = "1"  # raise it when a step makes something else from the same inputs
STEP_S = 3600.0
REHEARSAL_S = 10.0
REHEARSED = "/run/rehearsal"  # on a file system in memory: nothing of it is left on the disk
HOST_NAME = "sandbox"  # of every guest while it is built
KEEP_FREE = 96 * 1024 * 1024  # bytes that the guest keeps, above what it uses, when its free memory is taken away


class Step(Protocol):
    """What happens in the guest between two snapshots. A step does not know about the machine around it."""

    async def act(self, guest: Guest, context: BuildContext) -> None:
        """Do the work in the guest. Raises EngineError and VmmError."""


@dataclass(frozen=True)
class InGuest:
    """Restore the machine of the node `parent` (None: boot a new one), let `step` act in it, and save a snapshot.

    `name` is what this host calls the machine. During the step it may reach `endpoints`. With `certified` it trusts the
    certificate of a sandbox: containers that run in a snapshot can be given another certificate, but not a first one.
    `services` run afterwards, in the Compose project of that name: `up` will ask how they are.
    """

    step: Step
    name: str
    shape: Shape
    endpoints: tuple[Endpoint, ...] = ()
    parent: str | None = None
    certified: bool = False
    services: tuple[str, ...] = ()

    async def build(self, context: BuildContext, /) -> None:
        async with self._guest(context) as guest:
            try:
                with advice_on_refusals(guest.gateway):
                    await self.step.act(guest, context)
            except (ContentChanged, PathError):
                raise  # the step itself did not fail: its inputs have changed, or cannot be copied
            except (EngineError, VmmError) as error:  # the step has failed, or the guest: a timeout, an unknown user
                raise await _with_a_look(guest, context, error) from error
            await _save(guest, context, self.shape, self.name, self.services)

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
                identity=build_identity(self.endpoints),
                runtime=context.sockets.directory,
                journal=journal,
                console_log=context.directory / "console.log",
                certified=self.certified,
                proxies=Proxies(host_variables(os.environ)),
                on_step=context.log,
                log=context.log,
            ) as guest:
                yield guest


def build_identity(endpoints: tuple[Endpoint, ...]) -> Identity:
    """What the guest is told about itself. A project's name is not in the keys of its steps, so it is not in here."""
    return Identity(HOST_NAME, files=client_files(endpoints))


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
    """Run `argv` in the guest, with its output in the node's log. Raises EngineError, with the end of the output."""
    await run_logged(guest.channel, context.log, argv, title=title, user=user, cwd=cwd, env=env, timeout_s=timeout_s)


async def _with_a_look(guest: Guest, context: BuildContext, error: EngineError | VmmError) -> EngineError:
    """The error for a failed step.

    A user who asked for it gets a shell in the guest first. For all others the hint says how to get one.
    """
    failure = EngineError(error.brief, error.details, error.hint, getattr(error, "exit_code", 1))
    on_failure = context.session.on_failure if context.session else None
    if on_failure is not None and guest.channel.lost is None:
        await on_failure(guest, failure)
        return failure
    look = "`sandbox up --shell-on-failure` opens a shell in the guest as it was then"
    failure.hint = f"{error.hint}\n{look}" if error.hint else look
    return failure


async def _rehearse(guest: Guest, project: str, services: tuple[str, ...]) -> None:
    """Have the guest do what a restored one does first, so that the snapshot has those pages in its memory.

    The balloon has just taken the pages of programs that had not run lately; a clone would read them from its disk
    again, each time. Measured: the first answers of a clone come after 0.6 s instead of 0.8 s. What fails is no error.
    guestd keeps its look at the services, and says the same to who asks next, as long as Docker tells no news.
    """
    identity = Identity(guest.machine.spec.name).request()
    del identity["certificate"]  # it stays
    for _ in range(2):
        with contextlib.suppress(GuestError):
            await guest.channel.call("identity", timeout_s=REHEARSAL_S, **identity)
        with contextlib.suppress(GuestError):
            await guest.channel.call("health", timeout_s=REHEARSAL_S, project=project, services=list(services))
        with contextlib.suppress(GuestError):
            await guest.channel.run(["true"], timeout_s=REHEARSAL_S)
        with contextlib.suppress(GuestError):
            await write_small(guest.channel, [["file", "file", 0o644, 0, ""]], REHEARSED)
        with contextlib.suppress(GuestError):  # there is no such device: it is told so at the end of its patience
            await guest.channel.call("mount", timeout_s=0.2, tag="none", target=REHEARSED, ro=True)


async def _save(guest: Guest, context: BuildContext, shape: Shape, project: str, services: tuple[str, ...]) -> None:
    context.log("saving a snapshot")
    answer = await guest.channel.call("trim", timeout_s=120, paths=["/var/lib/docker"])
    memory = read_mapping(answer, "meminfo")
    used = (read(memory, "MemTotal", int) - read(memory, "MemAvailable", int)) * 1024
    await guest.machine.shrink_memory(used + KEEP_FREE)
    await _rehearse(guest, project, services)
    assert guest.memory is not None, "the memory of a machine to be saved is shared"
    await save_snapshot(guest.machine, guest.memory, shape, context.directory)
