"""Waking a sandbox that waits, paused or stopped: a supervisor gets what the last one kept of its Launch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import EngineError
from engine.state.instances import load_instance, look_up, save_instance

if TYPE_CHECKING:
    from engine.secrets.places import SecretPlaces
    from engine.state.instance_paths import KeptPaths
    from engine.state.instances import Instance, Listed
    from engine.state.layout import Layout
    from engine.supervisor.launch import Launch

Waiting = Literal["paused", "stopped"]


async def wake(
    layout: Layout, record: Instance, kept: KeptPaths, state: Waiting, on_event: Callable[[str], None], **how: Any
) -> Instance:
    """Start a supervisor with the Launch in `kept`, changed by `how`; returns the record when the sandbox runs.

    The caller holds the name. Secrets are read anew, and the proxies of this process's environment are its own. What
    fails before its machine runs leaves it in `state`. Raises EngineError.
    """
    from engine.lifecycle.down import wait_for_end
    from engine.lifecycle.supervised import start_supervisor
    from engine.state.processes import describe_process

    name = record.name
    await wait_for_end(name, record)  # of the supervisor that has put it aside by itself, and is on its way out
    launch = replace(read_launch(name, kept), **how)
    try:
        async with start_supervisor(layout, layout.instance(name)) as supervisor:
            pid = supervisor.pid
            process = describe_process(pid)
            record = record._replace(state="starting", pid=pid, process=process, error=None, ended=None)
            save_instance(layout, record)
            await supervisor.send(launch)
            await supervisor.ready(on_event)
    except BaseException:
        _note_waiting(layout, name, state)
        raise
    return load_instance(layout, name) or record


async def settled(layout: Layout, name: str) -> Listed:
    """What the sandbox is when nobody wakes or starts it any more, for a caller that holds the name.

    Whoever did so may have been killed: the supervisor then ends, or goes on without it. Waits for that up to END_S.
    """
    from engine.lifecycle.down import END_S, POLL_S

    until = time.monotonic() + END_S
    while (listed := look_up(layout, name)).liveness == "starting" and time.monotonic() < until:  # noqa: ASYNC110 - no event
        await asyncio.sleep(POLL_S)
    return listed


def read_launch(name: str, kept: KeptPaths) -> Launch:
    """What the sandbox was started with, and what of this environment it gets anew. Raises EngineError."""
    from engine.lifecycle.supervised import host_proxies
    from engine.supervisor.launch import Launch

    try:
        launch = Launch.from_json(kept.launch.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(f"what {name} was started with cannot be read", f"{kept.launch}: {error}") from error
    return replace(launch, secrets=with_values(launch.secrets), proxies=host_proxies(), resume=False, boot=False)


def with_values(places: SecretPlaces) -> SecretPlaces:
    from engine.secrets.sources import needed_environment

    sources = [source for each in places.sources.values() for source in each]
    return replace(places, environment=needed_environment(sources, os.environ))


def _note_waiting(layout: Layout, name: str, state: Waiting) -> None:
    """A supervisor that was killed has not written that down."""
    with contextlib.suppress(EngineError, OSError):
        listed = look_up(layout, name)
        if listed.liveness == state and listed.instance is not None:
            save_instance(layout, listed.instance._replace(state=state, pid=None, process=None))
