"""`pause` and `resume`: a sandbox that waits on the disk and holds nothing else of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.state.instances import hold_name, load_instance, look_up, save_instance

if TYPE_CHECKING:
    from engine.state.instances import Instance, Listed
    from engine.state.layout import Layout

PAUSE_S = 600.0  # a second for each few hundred megabytes of memory; a slow disk may take minutes


async def pause(layout: Layout, name: str, *, release_ports: bool = False) -> str | None:
    """Write the running sandbox `name` to the disk and end its processes.

    A process that listens on its published ports stays, which wakes it; not with `release_ports`. Returns why what is
    kept of its agent could not be saved, too; None when it is. When this fails or is cancelled, the sandbox runs on.
    Raises EngineError and VmmError. Waits up to PAUSE_S for the disk.
    """
    from engine.lifecycle.down import keep_sessions, wait_for_end
    from vmm.channel.client import connect

    with hold_name(layout, name):
        record = _running(look_up(layout, name))
        control = layout.instance(name).sockets.control
        async with await connect(control) as client:
            lost = await keep_sessions(client) if record.keeps is not None else None
            await client.call("pause", timeout_s=PAUSE_S, release_ports=release_ports)
        await wait_for_end(name, record)
        if (ended := load_instance(layout, name)) is not None:
            save_instance(layout, ended._replace(pid=None, process=None))
    return lost


def _running(listed: Listed) -> Instance:
    if listed.liveness == "paused":
        raise EngineError(f"{listed.name} is paused already", hint=f"`sandbox resume {listed.name}` wakes it")
    if listed.liveness != "running" or listed.instance is None:
        raise EngineError(f"{listed.name} is not running ({listed.status})", hint="only what runs can be paused")
    return listed.instance


async def resume(layout: Layout, name: str, on_event: Callable[[str], None]) -> Instance:
    """Let the paused sandbox `name` go on; returns its record when it runs, also where somebody else was quicker.

    Its secrets are read anew, and the proxies of this process's environment are its own. What fails before its machine
    runs leaves it paused. Raises EngineError.
    """
    from engine.lifecycle.down import held
    from engine.lifecycle.kept import settled, wake

    before = look_up(layout, name)
    async with held(layout, name):
        listed = await settled(layout, name)
        if before.liveness in ("paused", "starting") and listed.liveness == "running" and listed.instance is not None:
            return listed.instance
        if listed.liveness != "paused" or listed.instance is None:
            hint = f"`sandbox start {name}` starts it" if listed.liveness == "stopped" else None
            raise EngineError(f"{name} is not paused ({listed.status})", hint=hint)
        kept = layout.instance(name).paused
        return await wake(layout, listed.instance, kept, "paused", on_event, resume=True)
