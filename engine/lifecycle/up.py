"""From checked files to running sandboxes, as the person at the terminal sees it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import click

from engine.cli.running import run
from engine.cli.showing.findings import show
from engine.errors import EngineError
from engine.lifecycle.intent import Intent, Wishes, agree, intend

if TYPE_CHECKING:
    from engine.guest.guest import Guest
    from engine.lifecycle.members import Members
    from engine.plan.changes import Change
    from engine.report.reporter import Mode, Reporter
    from engine.state.instances import Instance
    from engine.state.layout import Layout


@dataclass(frozen=True)
class Outcome:
    """A sandbox that runs. `applied` is what was changed about one that ran already; `seconds` is from `up`'s start."""

    instance: Instance
    how: Literal["started", "unchanged", "changed", "replaced"]
    applied: tuple[Change, ...]
    seconds: float


def bring_up(
    members: Members, layout: Layout, wishes: Wishes, on_up: Callable[[Outcome], None] = lambda outcome: None
) -> list[Outcome]:
    """Make the sandboxes of a file run as it says, one after another; `on_up` hears of each as soon as it does.

    Nothing is started, built, changed or taken down before everything that can be wrong with any of them here has been
    looked at, and the user has agreed. Raises EngineError, SandboxfileError; those that are up by then stay.
    """
    from engine.state.instances import claim

    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        for member in members.each:
            stack.enter_context(claim(layout, member.name, member.loaded.project))
        intents = [intend(member, layout, wishes) for member in members.each]
        show(members.whole.warnings, members.whole.path)
        unconfined = agree(intents, members.whole, layout, wishes)
        wishes = replace(wishes, unconfined_mounts=unconfined)
        outcomes = []
        for intent in intents:
            outcomes.append(_carry_out(intent, wishes, began))
            on_up(outcomes[-1])
        return outcomes


def _carry_out(intent: Intent, wishes: Wishes, began: float) -> Outcome:
    before = intent.before.instance
    if intent.doing == "leave":
        assert before is not None, "a sandbox that runs has a record"
        return Outcome(before, "unchanged", (), time.monotonic() - began)
    if intent.doing == "change":
        instance = _change(intent, wishes)
        return Outcome(instance, "changed", intent.changes, time.monotonic() - began)
    instance = _build_and_start(intent, wishes)
    how: Literal["started", "replaced"] = "replaced" if intent.doing == "replace" else "started"
    return Outcome(instance, how, intent.changes, time.monotonic() - began)


def _change(intent: Intent, wishes: Wishes) -> Instance:
    from engine.lifecycle.change import apply_changes
    from engine.report.choice import make_reporter

    before, comparison = intent.before.instance, intent.comparison
    assert before is not None and comparison is not None

    async def changed() -> Instance:
        with make_reporter(sys.stderr, wishes.progress) as reporter, _node(reporter, intent.name) as line:
            return await apply_changes(intent.project, before, comparison, line)

    return run(changed())


def _build_and_start(intent: Intent, wishes: Wishes) -> Instance:
    from engine.build.blueprint import build
    from engine.lifecycle.down import take_down
    from engine.lifecycle.start import start
    from engine.report.choice import make_reporter

    project, name = intent.project, intent.name
    mode: Mode = wishes.progress
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
            if intent.before.instance is not None:  # not earlier: a build that fails costs nobody a running machine
                reporter.note(f"removing the previous {name} ({intent.before.status})")
                await take_down(project.layout, intent.before)
            with _node(reporter, name) as line:
                options = {"keep_failed": wishes.keep_failed, "unconfined_mounts": wishes.unconfined_mounts}
                return (await start(project, built, name, line, **options)).instance

    return run(built_and_started())


@contextlib.contextmanager
def _node(reporter: Reporter, name: str) -> Iterator[Callable[[str], None]]:
    """The sandbox itself among the nodes that a reporter shows; yields where its lines go."""
    reporter.node_started(name, f"sandbox {name}")
    began = time.monotonic()
    try:
        yield lambda text: reporter.node_line(name, text)
    except BaseException as error:
        reporter.node_failed(name, getattr(error, "brief", "interrupted"), time.monotonic() - began)
        raise
    reporter.node_finished(name, time.monotonic() - began)


async def _open_shell(guest: Guest, error: EngineError) -> None:
    from engine.cli.attached import run_within
    from engine.report.text import clean_line

    for line in (error.brief, *(error.details or "").splitlines()):
        click.echo(clean_line(line), err=True)
    click.echo("a shell in the guest as it was then; `exit` ends it", err=True)
    await run_within(guest.channel, ["bash"], user="root", cwd="/", tty=sys.stdin.isatty())
