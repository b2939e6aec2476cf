"""From a checked file to a running sandbox, as the person at the terminal sees it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from engine.cli.running import run
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.guests import Guest
    from engine.image.build import Place
    from engine.instances import Instance, Listed
    from engine.layout import Layout
    from engine.report import Mode
    from engine.up import Project
    from sandboxfile import Loaded


@dataclass(frozen=True)
class Wishes:
    """What the command line says about one `up`, beside which file and name."""

    yes: bool = False
    recreate: bool = False
    shell_on_failure: bool = False
    build_in: Place = "auto"
    progress: Mode = "auto"


def bring_up(loaded: Loaded, layout: Layout, name: str, wishes: Wishes) -> tuple[Instance, bool]:
    """The record of the sandbox `name`, which runs when this returns, and whether it was started now.

    Nothing is started, built, or taken down before everything that can be wrong with the file here has been looked at.
    Raises EngineError, SandboxfileError.
    """
    from engine.instances import claim, look_up

    with claim(layout, name, loaded.project):
        listed = look_up(layout, name)
        running = None if wishes.recreate else _running(listed)
        if running is None:
            _prepare(loaded, layout, listed, wishes)
            return _build_and_start(_project(loaded, layout, wishes), name, wishes), True
        _check_unchanged(_project(loaded, layout, wishes), running)
        return running, False


def _project(loaded: Loaded, layout: Layout, wishes: Wishes) -> Project:
    from engine.up import Project  # takes a while: not for a file that is refused

    return Project.of(loaded, layout, build_place=wishes.build_in)


def _running(listed: Listed) -> Instance | None:
    if listed.liveness == "unresponsive":
        raise EngineError(
            f"{listed.name} is {listed.status}", hint=f"`sandbox down {listed.name}` ends it, then `sandbox up`"
        )
    return listed.instance if listed.liveness == "running" else None


def _check_unchanged(project: Project, instance: Instance) -> None:
    if project.instance_key() != instance.plan_key:
        raise EngineError(
            f"{instance.name} runs, and {project.loaded.path.name} or what it is built from has changed since",
            hint="`sandbox up --recreate` replaces it; `sandbox plan` shows what would be built",
        )


def _prepare(loaded: Loaded, layout: Layout, listed: Listed, wishes: Wishes) -> None:
    """Checks, approval, and an end to the sandbox that had the name."""
    from engine.cli.approval import approve
    from engine.preflight import check_host

    before = listed.instance
    check_host(loaded, held=[port["host"] for port in before.ports] if before and _lives(listed) else ())
    approve(loaded, wishes.yes)
    if before is not None:
        from engine.down import take_down

        click.echo(f"removing the previous {listed.name} ({listed.status})", err=True)
        run(take_down(layout, listed))


def _lives(listed: Listed) -> bool:
    return listed.liveness in ("starting", "running")


def _build_and_start(project: Project, name: str, wishes: Wishes) -> Instance:
    from engine.report import make_reporter
    from engine.start import start
    from engine.up import build

    mode = wishes.progress
    if wishes.shell_on_failure:
        # A live display and a shell cannot share a terminal.
        mode = "plain" if mode == "auto" else mode
        project.session.on_failure = _open_shell
    plan = project.plan()
    if plan.to_build and mode in ("auto", "plain"):
        click.echo(plan.render(), nl=False, err=True)

    async def built_and_started() -> Instance:
        with make_reporter(sys.stderr, mode) as reporter:
            built = await build(project, reporter)
            reporter.node_started(name, f"sandbox {name}")
            began = time.monotonic()
            line: Callable[[str], None] = lambda text: reporter.node_line(name, text)  # noqa: E731
            try:
                started = await start(project, built, name, line)
            except BaseException as error:
                reporter.node_failed(name, getattr(error, "brief", "interrupted"), time.monotonic() - began)
                raise
            reporter.node_finished(name, time.monotonic() - began)
            return started.instance

    return run(built_and_started())


async def _open_shell(guest: Guest, error: EngineError) -> None:
    from engine.report import clean_line
    from vmm.channel.client import attach

    for line in (error.brief, *(error.details or "").splitlines()):
        click.echo(clean_line(line), err=True)
    click.echo("a shell in the guest as it was then; `exit` ends it", err=True)
    await attach(guest.channel, ["bash"], tty=sys.stdin.isatty(), interactive=True, user="root", cwd="/", env={})
