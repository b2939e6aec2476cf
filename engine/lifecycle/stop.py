"""`stop` and `start`: a sandbox whose machine is off, and whose disk is kept and booted again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import EngineError
from engine.state.instances import hold_name, look_up, save_instance

if TYPE_CHECKING:
    from engine.lifecycle.audience import Audience
    from engine.state.instances import Instance, Listed
    from engine.state.layout import Layout
    from engine.supervisor.launch import Launch
    from sandboxfile import Loaded

STOP_S = 300.0  # for services, for the guest, and then for QEMU; each has a limit of its own there


class Stopped(NamedTuple):
    """How a stop went. `lost` says why what is kept of the agent could not be saved outside, too, and `forced` what did
    not go in good order; None: nothing."""

    lost: str | None
    forced: str | None


async def stop(layout: Layout, name: str) -> Stopped:
    """End the machine of the running sandbox `name` in good order, and keep its disk.

    Services are stopped, then the guest. One that does not end within its limits is switched off. Raises EngineError
    and VmmError; then the sandbox runs on. Cancelled once the guest was asked to end, it ends all the same. Waits up to
    STOP_S.
    """
    from engine.lifecycle.down import keep_sessions, wait_for_end
    from vmm.channel.client import connect
    from vmm.channel.errors import GuestError

    with hold_name(layout, name):
        record = _running(look_up(layout, name))
        async with await connect(layout.instance(name).sockets.control) as client:
            lost = await keep_sessions(client) if record.keeps is not None else None
            try:
                await client.call("stop", timeout_s=STOP_S)
            except GuestError:
                if client.lost is None:  # else the supervisor has ended before its answer was on the way
                    raise
        await wait_for_end(name, record)
        listed = look_up(layout, name)
        if listed.liveness != "stopped" or listed.instance is None:
            raise EngineError(f"{name} could not be stopped ({listed.status})")
        save_instance(layout, listed.instance._replace(state="stopped", pid=None, process=None))
        return Stopped(lost, listed.instance.ended)


def _running(listed: Listed) -> Instance:
    hints = {"stopped": f"`sandbox start {listed.name}` starts it", "paused": "`sandbox resume` wakes it first"}
    if listed.liveness == "stopped" and listed.instance is not None:
        raise EngineError(f"{listed.name} is stopped already", hint=hints["stopped"])
    if listed.liveness != "running" or listed.instance is None:
        raise EngineError(
            f"{listed.name} is not running ({listed.status})",
            hint=hints.get(listed.liveness, "only what runs can be stopped; `sandbox down` removes it"),
        )
    return listed.instance


def can_start(layout: Layout, listed: Listed) -> bool:
    """Whether it is stopped, and what it was started with is kept."""
    return listed.liveness == "stopped" and layout.instance(listed.name).stopped.directory.is_dir()


def check_start(layout: Layout, name: str, audience: Audience, *, yes: bool) -> None:
    """Check the file of the stopped sandbox `name` against this host, and ask for agreement, as `up` does.

    Raises SandboxfileError, and EngineError when the user does not agree, with exit code 2 where nobody can be asked.
    """
    from engine.lifecycle.kept import read_launch
    from engine.resolve.preflight import check_host
    from engine.trust.agreement import agree

    record = _stopped(layout, look_up(layout, name))
    launch = read_launch(name, layout.instance(name).stopped)
    loaded = _file_of(record)
    check_host(loaded)
    audience.found(loaded.warnings, loaded.path)
    agree(loaded, layout, audience.ask, yes=yes, unconfined=launch.unconfined_mounts, tell=audience.agreed_unseen)
    _check_mounts(launch)


async def start_stopped(layout: Layout, name: str, on_event: Callable[[str], None]) -> Instance:
    """Boot the disk of the stopped sandbox `name`; returns its record when its services are healthy.

    Its secrets are read anew. What fails leaves it stopped. Raises EngineError. Waits as long as a cold boot and health
    checks take.
    """
    from engine.lifecycle.kept import wake

    with hold_name(layout, name):
        record = _stopped(layout, look_up(layout, name))
        _check_mounts(read := _read(layout, name))
        if not Path(read.snapshot).is_dir():
            raise EngineError(
                f"the snapshot below the disk of {name} is gone",
                details=read.snapshot,
                hint="`sandbox up --recreate` makes a new machine",
            )
        try:
            return await wake(layout, record, layout.instance(name).stopped, "stopped", on_event, boot=True)
        except EngineError as error:
            hint = f"{name} stays stopped; `sandbox up --recreate` makes a new machine in its place"
            error.hint = "; ".join(filter(None, (error.hint, hint)))
            raise


def _read(layout: Layout, name: str) -> Launch:
    from engine.lifecycle.kept import read_launch

    return read_launch(name, layout.instance(name).stopped)


def _stopped(layout: Layout, listed: Listed) -> Instance:
    if listed.liveness == "paused":
        raise EngineError(f"{listed.name} is paused", hint=f"`sandbox resume {listed.name}` wakes it")
    if listed.liveness == "running":
        raise EngineError(f"{listed.name} runs already")
    if listed.instance is None or not can_start(layout, listed):
        raise EngineError(f"{listed.name} cannot be started ({listed.status})", hint="`sandbox up` makes a new machine")
    return listed.instance


def _file_of(record: Instance) -> Loaded:
    from engine.lifecycle.members import pick
    from engine.lifecycle.project_file import load_file

    loaded = load_file(Path(record.file), (), ())
    return loaded if record.agent_name is None else pick(loaded, record.agent_name)


def _check_mounts(launch: Launch) -> None:
    """A path that leads elsewhere by now, as a guest can arrange, is not what the user has agreed to."""
    for mount in launch.mounts:
        path = Path(mount.source)
        if not path.exists() or path.resolve() != path:
            raise EngineError(
                f"{mount.source} is not what it was when the sandbox was started",
                details="it is gone, or leads elsewhere",
                hint="put it back, or `sandbox up --recreate` makes a new machine from the file",
            )
