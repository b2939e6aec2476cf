"""`pause` and `resume`: a sandbox that waits on the disk and holds nothing else of the host."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.state.instances import hold_name, load_instance, look_up, save_instance

if TYPE_CHECKING:
    from engine.secrets.places import SecretPlaces
    from engine.state.instances import Instance, Listed
    from engine.state.layout import Layout
    from engine.supervisor.launch import Launch

PAUSE_S = 600.0  # a second for each few hundred megabytes of memory; a slow disk may take minutes


async def pause(layout: Layout, name: str) -> str | None:
    """Write the running sandbox `name` to the disk and end its processes.

    Returns why what is kept of its agent could not be saved, too; None when it is. When this fails or is cancelled, the
    sandbox runs on. Raises EngineError and VmmError. Waits up to PAUSE_S for the disk.
    """
    from engine.lifecycle.down import keep_sessions, wait_for_end
    from vmm.channel.client import connect

    with hold_name(layout, name):
        record = _running(look_up(layout, name))
        control = layout.instance(name).sockets.control
        async with await connect(control) as client:
            lost = await keep_sessions(client) if record.keeps is not None else None
            await client.call("pause", timeout_s=PAUSE_S)
        await wait_for_end(name, record)
    return lost


def _running(listed: Listed) -> Instance:
    if listed.liveness == "paused":
        raise EngineError(f"{listed.name} is paused already", hint=f"`sandbox resume {listed.name}` wakes it")
    if listed.liveness != "running" or listed.instance is None:
        raise EngineError(f"{listed.name} is not running ({listed.status})", hint="only what runs can be paused")
    return listed.instance


async def resume(layout: Layout, name: str, on_event: Callable[[str], None]) -> Instance:
    """Let the paused sandbox `name` go on; returns its record when it runs.

    Its secrets are read anew, and the proxies of this process's environment are its own. What fails before its machine
    runs leaves it paused. Raises EngineError.
    """
    from engine.lifecycle.start import start_supervisor
    from engine.state.processes import describe_process

    with hold_name(layout, name):
        listed = look_up(layout, name)
        if listed.liveness != "paused" or listed.instance is None:
            raise EngineError(f"{name} is not paused ({listed.status})")
        launch = _launch(layout, name)
        record = listed.instance
        try:
            async with start_supervisor(layout, layout.instance(name)) as supervisor:
                pid = supervisor.pid
                record = record._replace(state="starting", pid=pid, process=describe_process(pid), error=None)
                save_instance(layout, record)
                await supervisor.send(launch)
                await supervisor.ready(on_event)
        except BaseException:
            _note_paused(layout, name)
            raise
        return load_instance(layout, name) or record


def _launch(layout: Layout, name: str) -> Launch:
    """What the sandbox was started with, and what of this environment it gets anew. Raises EngineError."""
    from engine.lifecycle.start import host_proxies
    from engine.supervisor.launch import Launch

    path = layout.instance(name).paused.launch
    try:
        launch = Launch.from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(f"what {name} was started with cannot be read", f"{path}: {error}") from error
    return replace(launch, secrets=with_values(launch.secrets), proxies=host_proxies(), resume=True)


def with_values(places: SecretPlaces) -> SecretPlaces:
    """The same, with the values of this environment that they are read from."""
    from engine.secrets.sources import needed_environment

    sources = [source for each in places.sources.values() for source in each]
    return replace(places, environment=needed_environment(sources, os.environ))


def _note_paused(layout: Layout, name: str) -> None:
    """A supervisor that was killed has not written that down."""
    with contextlib.suppress(EngineError):
        listed = look_up(layout, name)
        if listed.liveness == "paused" and listed.instance is not None:
            save_instance(layout, listed.instance._replace(state="paused", pid=None, process=None))
