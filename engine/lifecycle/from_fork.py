"""Starting a sandbox where another one was at some moment: what it is given, and its start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clones.interrupted import UNDER_WAY
from engine.errors import EngineError
from engine.files import make_private
from engine.guest.identity import Identity
from engine.lifecycle.clones import alone_with
from engine.lifecycle.failed_start import leave_evidence
from engine.lifecycle.kept import with_values
from engine.lifecycle.ssh import write_alias
from engine.lifecycle.supervised import host_proxies, start_supervisor
from engine.resolve.host_ports import pick_port, port_is_free
from engine.state.configuration import save_running
from engine.state.instance_paths import ForkPaths
from engine.state.instances import forget_instance, list_instances, load_instance, save_instance
from engine.state.processes import describe_process
from engine.supervisor.launch import Launch
from vmm.spec import HostForward

if TYPE_CHECKING:
    from engine.state.configuration import Running
    from engine.state.instances import Instance
    from engine.state.layout import Layout

ALONE_S, LOOK_S = 60.0, 0.1  # a sync looks at all files of both sides, and holds the base meanwhile
NEAR = 100  # ports after the one of the source that are tried before any other


def read_launch(fork: ForkPaths) -> Launch:
    """What the sandbox was started with, and changed to. Raises EngineError."""
    try:
        return Launch.from_json(fork.aside.launch.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError("what the sandbox was started with cannot be read", str(error)) from error


def launch_of(launch: Launch, fork: ForkPaths, name: str, forwards: tuple[HostForward, ...]) -> Launch:
    """The Launch of the sandbox `name` that begins there. What its guest has of the source stays there: it is told its
    own name, and no more. Values of secrets are read from this environment. Raises EngineError."""
    return replace(
        launch,
        name=name,
        snapshot=str(fork.directory),
        forked=True,
        resume=False,
        boot=False,
        late=(),
        compose=None,
        forwards=forwards,
        identity=Identity(name, {"SANDBOX_NAME": name}, user=launch.identity.user),
        secrets=with_values(launch.secrets),
        proxies=host_proxies(),
    )


def taken_ports(layout: Layout) -> set[int]:
    """Those of all sandboxes, also of paused ones, which will want them again."""
    found = list_instances(layout, lambda control: True)
    return {int(port["host"]) for listed in found if listed.instance for port in listed.instance.ports}


def own_ports(forwards: Iterable[HostForward], taken: set[int]) -> tuple[HostForward, ...]:
    """The same ports of the guest, at the next ports of this host that are free; they are added to `taken`."""
    found = []
    for forward in forwards:
        port = _free_port(forward.host_port, taken)
        taken.add(port)
        found.append(replace(forward, host_port=port))
    return tuple(found)


def _free_port(after: int, taken: Collection[int]) -> int:
    for port in range(after + 1, min(after + NEAR, 65536)):
        with contextlib.suppress(OSError):
            if port not in taken and port_is_free(port):
                return port
    return pick_port(taken)


async def start_there(
    layout: Layout,
    record: Instance,
    running: Running | None,
    name: str,
    launching: Awaitable[Launch],
    on_event: Callable[[str], None],
) -> Instance:
    """Start the sandbox `name`, which the caller holds, with the Launch of `launching`; returns its record.

    Its supervisor loads its modules while the Launch is waited for. `record` and `running` are those of the sandbox
    that was there, and what its private copies were made of is there, too. Raises EngineError: then nothing is left of
    it but what `leave_evidence` keeps. Cancelled, it leaves nothing.
    """
    try:
        async with start_supervisor(layout, layout.instance(name)) as supervisor:
            launch = await launching
            make_private(layout.instance(name).directory)
            copy_bases(ForkPaths(Path(launch.snapshot)).clones, layout.instance(name).clones)
            record = _record(record, launch, supervisor.pid)
            if running is not None:
                save_running(layout, name, running)
            save_instance(layout, record)
            try:
                write_alias(layout, name)
            except (EngineError, OSError) as error:  # an editor's comfort is no reason to have no sandbox
                on_event(f"ssh finds no alias for {name}: {error}")
            await supervisor.send(launch)
            await supervisor.ready(lambda line: on_event(f"{name}: {line}"))
        return load_instance(layout, name) or record
    except EngineError as error:
        hint = "; ".join(filter(None, (error.hint, leave_evidence(layout, name))))
        raise EngineError(f"{name}: {error.brief}", error.details, hint, error.exit_code) from error
    except BaseException:
        with contextlib.suppress(EngineError, OSError):
            forget_instance(layout, name)
        raise


def ready(launch: Launch) -> asyncio.Future[Launch]:
    """A Launch that is there already, for `start_there`."""
    future = asyncio.get_running_loop().create_future()
    future.set_result(launch)
    return future


def _record(source: Instance, launch: Launch, pid: int) -> Instance:
    return source._replace(
        name=launch.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        state="starting",
        pid=pid,
        process=describe_process(pid),
        ports=[{"host": forward.host_port, "guest": forward.guest_port} for forward in launch.forwards],
        warnings=[],
        temporary=[],
        asks=[],
    )


async def copy_current_bases(source: Path, target: Path) -> None:
    """As `copy_bases`, of a sandbox that runs, and before its machine is written.

    What a sync brings in between is in the machine then and not in the base: the same change on both sides. In the base
    alone it would count for undone in the machine. Waits ALONE_S for a command at work. Raises EngineError.
    """
    until = time.monotonic() + ALONE_S
    while True:
        with contextlib.ExitStack() as stack:
            try:
                for base in sorted(source.iterdir()) if source.is_dir() else []:
                    stack.enter_context(alone_with(base))
            except EngineError:
                if time.monotonic() >= until:
                    raise
            else:
                copy_bases(source, target)
                return
        await asyncio.sleep(LOOK_S)


def copy_bases(source: Path, target: Path) -> None:
    """What private copies were made of, for others. Nothing where there are none. Raises EngineError."""
    if not source.is_dir():
        return
    try:
        make_private(target.parent)
        # What is under way is so on this host, for the sandbox that it was taken of.
        shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns(UNDER_WAY))
    except (OSError, shutil.Error) as error:
        raise EngineError(f"what its private copies were made of cannot be copied: {error}") from error


def _link(source: str, target: str) -> None:
    """Nobody changes these files: they are replaced, or others are added."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def changed_file(record: Instance, running: Running | None, who: str) -> Iterator[str]:
    """A note where the file says something else by now. `who` runs what was approved then."""
    from engine.lifecycle.project_file import load_file
    from sandboxfile import SandboxfileError

    if running is None:
        return
    try:
        loaded = load_file(Path(record.file))
    except (EngineError, SandboxfileError, OSError):
        yield f"{record.file} cannot be read any more: {who} as {record.name} was started"
        return
    mine = [one for one in loaded.each() if one.agent_name == record.agent_name]
    if not any(one.sandbox.model_dump(mode="json", by_alias=True) == running.configuration.sandbox for one in mine):
        yield f"{record.file} says something else by now: {who} as {record.name} was started"
