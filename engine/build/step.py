"""What the guest nodes of the chain do: each runs inside a clone of its parent's snapshot and saves the result.

No third-party code runs on the host, and the gateway holds each step to the endpoints it may reach.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from engine.build.foundation import load_base
from engine.build.image.build import Place
from engine.errors import EngineError
from engine.gateway.journal import Journal
from engine.guest.advice import advice_on_refusals
from engine.guest.guest import Base, Guest, Identity, open_guest
from engine.guest.services import get_images, put_contexts, put_project, run_logged, start_services
from engine.plan.graph import BuildContext
from engine.project.pieces import Piece
from engine.project.sending import put_piece
from engine.project.tree import ContentChanged, PathError, ProjectTree, opened
from engine.resolve.compose import Compose
from engine.resolve.endpoints import Registries, client_files
from engine.state.layout import Layout
from sandboxfile import Endpoint, Loaded, SetupStep
from vmm.channel.answers import read, read_mapping
from vmm.disk import make_overlay
from vmm.errors import VmmError
from vmm.process import guarded_directory
from vmm.snapshot import Shape, Snapshot, load_snapshot, save_snapshot

VERSION = "1"  # of the steps below: raise it when one of them makes something else of the same inputs
STEP_S = 3600.0
DOCKER_S = 300.0
KEEP_FREE = 96 * 1024 * 1024  # what the guest keeps while its free memory is taken away, above what it uses


@dataclass
class Session:
    """What one run of `up` gives to its steps."""

    layout: Layout
    loaded: Loaded
    shape: Shape | None = None
    build_place: Place = "auto"
    # Called with the guest and the failure when the user asked for a shell in the place where a step failed.
    on_failure: Callable[[Guest, EngineError], Awaitable[None]] | None = None

    @property
    def tree(self) -> ProjectTree:
        return opened(self.loaded.project)

    def working_directory(self) -> str:
        mounts = self.loaded.sandbox.mounts
        return mounts[0].target if mounts else "/home/agent"


class Step:
    """One guest node."""

    endpoints: tuple[Endpoint, ...] | None = ()  # None: those of the file

    async def act(self, guest: Guest, context: BuildContext, session: Session) -> None:
        raise NotImplementedError

    async def build(self, context: BuildContext, *, session: Session, parent: str) -> None:
        """The node's body: restore, act, save."""
        snapshot = load_snapshot(context.parents[parent])
        allowed = session.loaded.sandbox.endpoints if self.endpoints is None else self.endpoints
        async with _guest(context, session, snapshot, allowed) as (guest, shape):
            try:
                with advice_on_refusals(guest.gateway):
                    await self.act(guest, context, session)
            except (ContentChanged, PathError):
                raise  # nothing is wrong with the step: it did not get what it was to have
            except (EngineError, VmmError) as error:  # of the step itself, or of the guest: a timeout, an unknown user
                failure = EngineError(error.brief, error.details, error.hint, getattr(error, "exit_code", 1))
                if session.on_failure is not None and guest.channel.lost is None:
                    await session.on_failure(guest, failure)
                    raise failure from error
                look = "`sandbox up --shell-on-failure` opens a shell in the guest as it was then"
                failure.hint = f"{error.hint}\n{look}" if error.hint else look
                raise failure from error
            await _save(guest, context, shape)


async def boot(context: BuildContext, *, session: Session) -> None:
    """The first guest node: a cold boot until Docker answers and has its local base image."""
    async with _guest(context, session, None, ()) as (guest, shape):
        context.log("waiting for Docker")
        await guest.channel.call("wait_unit", timeout_s=DOCKER_S, unit="docker.service")
        context.log("loading localhost/debian:13")
        load = [
            "docker",
            "import",
            "--change",
            'CMD ["bash"]',
            "/usr/share/sandbox/debian-13.tar",
            "localhost/debian:13",
        ]
        await execute(guest, context, load, title="loading the base container image", timeout_s=DOCKER_S)
        await _save(guest, context, shape)


@dataclass(frozen=True)
class Packages(Step):
    """Debian packages of the file, by the guest's own apt, from the mirror that the host is configured with."""

    names: tuple[str, ...]
    endpoints = (Endpoint(group="debian"),)

    async def act(self, guest: Guest, context: BuildContext, session: Session) -> None:
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        await execute(guest, context, ["apt-get", "-qq", "update"], title="apt-get update", env=environment)
        install = ["apt-get", "-y", "-o", "Dpkg::Use-Pty=0", "install", "--no-install-recommends", "--", *self.names]
        await execute(guest, context, install, title=f"installing {' '.join(self.names)}", env=environment)
        await execute(guest, context, ["sh", "-c", "apt-get clean; rm -rf /var/lib/apt/lists/*"], title="cleaning up")


@dataclass(frozen=True)
class Setup(Step):
    """One entry of `setup`, as the user it names, in the working directory."""

    entry: SetupStep
    index: int
    inputs: tuple[Piece, ...] = ()
    endpoints = None

    async def act(self, guest: Guest, context: BuildContext, session: Session) -> None:
        directory = session.working_directory()
        await execute(
            guest, context, ["install", "-d", "-o", "agent", "-g", "agent", directory], title="making the directory"
        )
        for piece in self.inputs:
            parent = str(PurePosixPath(piece.target).parent)
            if parent.startswith(f"{directory}/"):
                make = ["install", "-d", "-o", "agent", "-g", "agent", parent]
                await execute(guest, context, make, title=f"making room for {piece.path}")
            context.log(f"copying {piece.path}")
            await put_piece(guest.channel, session.tree, piece)
        await execute(
            guest,
            context,
            ["bash", "-c", self.entry.run],
            title=f"setup[{self.index}]: {self.entry.run.strip().splitlines()[0]}",
            user=self.entry.user,
            cwd=directory,
            env=dict(self.entry.env),
        )


@dataclass(frozen=True)
class Images(Step):
    """The images of all services: built from the project's contexts, or pulled."""

    compose: Compose
    endpoints = None

    async def act(self, guest: Guest, context: BuildContext, session: Session) -> None:
        project = self.compose.project(session.tree)
        await put_contexts(guest.channel, session.tree, project, project.built, context.log)
        await put_project(guest.channel, session.tree, project, context.log)
        await get_images(guest.channel, project, project.services, context.log)


@dataclass(frozen=True)
class Services(Step):
    """Every service that needs no live mount: up, and healthy where it has a health check."""

    compose: Compose
    endpoints = None

    async def act(self, guest: Guest, context: BuildContext, session: Session) -> None:
        await put_project(guest.channel, session.tree, self.compose.project(session.tree), context.log)
        await start_services(guest.channel, self.compose.early, context.log)


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


@contextlib.asynccontextmanager
async def _guest(
    context: BuildContext, session: Session, parent: Snapshot | None, endpoints: tuple[Endpoint, ...]
) -> AsyncIterator[tuple[Guest, Shape]]:
    assert session.shape is not None, "guest nodes run after the accelerator is known"
    base: Base = load_base(context.parents, session.shape)
    disk = context.directory / "disk.qcow2"
    backing = context.parents["disk"] / "disk.raw" if parent is None else parent.disk
    await make_overlay(base.tools, disk, backing, "raw" if parent is None else "qcow2", relative=True)
    policy = Registries.of_image(context.parents["image"]).policy(endpoints)
    with (
        guarded_directory(context.sockets.directory),
        contextlib.closing(Journal(context.directory / "journal.jsonl")) as journal,
    ):
        async with open_guest(
            base,
            name=session.loaded.sandbox.name,
            disk=disk,
            parent=parent,
            policy=policy,
            identity=Identity(session.loaded.sandbox.name, files=client_files(endpoints)),
            runtime=context.sockets.directory,
            journal=journal,
            console_log=context.directory / "console.log",
            on_step=context.log,
        ) as guest:
            yield guest, session.shape


async def _save(guest: Guest, context: BuildContext, shape: Shape) -> None:
    context.log("saving a snapshot")
    answer = await guest.channel.call("trim", timeout_s=120, paths=["/var/lib/docker"])
    memory = read_mapping(answer, "meminfo")
    used = (read(memory, "MemTotal", int) - read(memory, "MemAvailable", int)) * 1024
    await guest.machine.shrink_memory(used + KEEP_FREE)
    await save_snapshot(guest.machine, guest.memory, shape, context.directory)
