"""What one `up` is going to do with one sandbox: decided, checked and agreed to before anything is changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.build.blueprint import Project
    from engine.build.image.build import Place
    from engine.lifecycle.change import Comparison
    from engine.lifecycle.members import Member
    from engine.plan.changes import Change
    from engine.report.reporter import Mode
    from engine.state.instances import Instance, Listed
    from engine.state.layout import Layout
    from sandboxfile import Loaded

LOST = "what is only on the guest's own disk is lost"


@dataclass(frozen=True)
class Wishes:
    """What the command line says about one `up`, beside which file and name."""

    yes: bool = False
    recreate: bool = False
    shell_on_failure: bool = False
    keep_failed: bool = False
    build_in: Place = "auto"
    progress: Mode = "auto"
    unconfined_mounts: bool = False


@dataclass(frozen=True)
class Intent:
    """`before` is the sandbox as it was found; `comparison` is None unless it runs and is not replaced anyway."""

    name: str
    project: Project
    before: Listed
    comparison: Comparison | None

    @property
    def changes(self) -> tuple[Change, ...]:
        return self.comparison.changes if self.comparison else ()

    @property
    def doing(self) -> Literal["start", "leave", "change", "replace"]:
        from engine.plan.changes import needs_new_machine

        if self.comparison is None:
            return "start"
        if not self.changes:
            return "leave"
        return "replace" if needs_new_machine(self.changes) else "change"


def intend(member: Member, layout: Layout, wishes: Wishes) -> Intent:
    """Look at the sandbox and the host. Raises SandboxfileError and EngineError for everything that can be wrong."""
    from engine.resolve.preflight import check_host
    from engine.state.instances import look_up

    before = look_up(layout, member.name)
    lives = before.instance if before.liveness in ("starting", "running") else None
    check_host(member.loaded, held=[port["host"] for port in lives.ports] if lives else ())
    running = None if wishes.recreate else _running(before)
    from engine.build.blueprint import Project  # takes a while: not for a file that is refused

    if running is None:
        from engine.resolve.registries import ask_ahead
        from engine.trust.asks import groups_of

        ask_ahead(groups_of(member.loaded))

    project = Project.of(member.loaded, layout, build_place=wishes.build_in)
    if running is None:
        return Intent(member.name, project, before, None)
    from engine.lifecycle.change import compare_running

    return Intent(member.name, project, before, compare_running(project, member.name))


def agree(intents: Sequence[Intent], whole: Loaded, layout: Layout, wishes: Wishes) -> bool:
    """Have the user approve what the file asks of this host, and the loss of machines that must be replaced.

    True where mounts may be served by a process that nothing confines. Raises EngineError when the user does not agree,
    and (exit code 2) where nobody can be asked.
    """
    from engine.cli.asking.approval import approve

    unconfined = False
    if any(intent.doing != "leave" for intent in intents):
        unconfined = approve(whole, layout, wishes.yes, unconfined=wishes.unconfined_mounts)
    for intent in intents:
        if intent.doing == "replace" and not wishes.yes:
            _confirm(intent)
        elif intent.changes and wishes.progress in ("auto", "plain"):
            _show(intent)
    return unconfined


def _running(listed: Listed) -> Instance | None:
    if listed.liveness == "unresponsive":
        raise EngineError(
            f"{listed.name} is {listed.status}", hint=f"`sandbox down {listed.name}` ends it, then `sandbox up`"
        )
    return listed.instance if listed.liveness == "running" else None


def _show(intent: Intent) -> None:
    from engine.plan.changes import render

    click.echo(f"{intent.name} runs, and its file asks for something else now:", err=True)
    click.echo(render(intent.changes), nl=False, err=True)


def _confirm(intent: Intent) -> None:
    from engine.plan.changes import render

    if not sys.stdin.isatty():
        raise EngineError(
            f"{intent.name} runs, needs a new machine, and nobody is here to approve that: nothing was changed",
            details=render(intent.changes),
            hint=f"`--yes` or `--recreate` replaces it; {LOST}",
            exit_code=2,
        )
    _show(intent)
    if not click.confirm(f"This needs a new machine; {LOST}. Replace {intent.name}?", err=True):
        raise EngineError("not approved: nothing was changed")
