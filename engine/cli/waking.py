"""Waking a paused or stopped sandbox for a command that needs it to run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.lifecycle.selection import check_running, choose, presume

if TYPE_CHECKING:
    from engine.lifecycle.audience import Audience
    from engine.state.instances import Instance, Listed
    from engine.state.layout import Layout


def choose_awake(layout: Layout, name: str | None) -> tuple[Instance, Path]:
    """As `choose_running`; a paused sandbox is resumed first, of which standard error is told. Raises EngineError."""
    listed = choose(layout, name, answers=presume)
    if listed.liveness != "paused":
        return check_running(layout, listed)
    wake_members(layout, [listed.name])
    return check_running(layout, choose(layout, listed.name, answers=presume))


def start_members(layout: Layout, names: list[str], *, yes: bool, audience: Audience | None = None) -> None:
    """Start those of the sandboxes that are stopped, as `sandbox start` does; `audience` is asked, by default this
    terminal. Raises EngineError, SandboxfileError."""
    from engine.lifecycle.stop import can_start, check_start, start_stopped

    for name in names:
        if can_start(layout, _settled(layout, name)):
            from engine.cli.asking.terminal import Terminal
            from engine.cli.running import run

            print(f"{name} is stopped: starting it from its disk", file=sys.stderr, flush=True)
            check_start(layout, name, audience or Terminal("auto"), yes=yes)
            run(start_stopped(layout, name, lambda line: print(f"  {line}", file=sys.stderr, flush=True)))


def _settled(layout: Layout, name: str) -> Listed:
    """What the sandbox is when nobody wakes it or starts it from its disk any more: who did so may have been killed."""
    from engine.state.instances import look_up

    listed = look_up(layout, name, presume)
    paths = layout.instance(name) if listed.liveness == "starting" else None
    if paths is None or not (paths.paused.directory.is_dir() or paths.stopped.directory.is_dir()):
        return listed
    from engine.cli.running import run
    from engine.lifecycle.down import held
    from engine.lifecycle.kept import settled

    async def wait() -> Listed:
        async with held(layout, name):
            return await settled(layout, name)

    return run(wait())


def wake_members(layout: Layout, names: list[str]) -> None:
    """Resume those of the sandboxes that are paused. Raises EngineError."""
    for name in names:
        if _settled(layout, name).liveness == "paused":
            from engine.cli.running import run
            from engine.lifecycle.pause import resume

            print(f"{name} is paused: waking it", file=sys.stderr, flush=True)
            run(resume(layout, name, lambda line: None))
