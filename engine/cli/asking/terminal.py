"""The person at the terminal as the audience of an `up`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.lifecycle.audience import Audience, Replacement

if TYPE_CHECKING:
    from engine.errors import EngineError
    from engine.guest.guest import Guest
    from engine.lifecycle.outcome import Outcome
    from engine.lifecycle.sign_in import MissingCredential
    from engine.plan.build_plan import Plan
    from engine.plan.changes import Change
    from engine.report.reporter import Mode, Reporter
    from engine.report.timings import Timings
    from engine.trust.agreement import HostAccess
    from engine.trust.asks import Ask
    from sandboxfile import Diagnostic


class Terminal(Audience):
    """Shows on standard error what happens, in the way of `progress`, and asks questions there.

    `is_up` is called for each sandbox that is up. `shell_on_failure` opens a shell in the guest of a failed step.
    """

    def __init__(
        self, progress: Mode, is_up: Callable[[Outcome], None] = lambda outcome: None, *, shell_on_failure: bool = False
    ) -> None:
        if shell_on_failure:
            self.on_failure = _open_shell
            # A live display and a shell cannot share a terminal.
            progress = "plain" if progress == "auto" else progress
        self.timings: Timings | None = None
        self._progress = progress
        self._is_up = is_up

    def ask(self, question: HostAccess | Replacement | MissingCredential) -> bool | None:
        from engine.cli.asking.approval import ask_host_access, ask_replacement, ask_without
        from engine.lifecycle.sign_in import MissingCredential

        if isinstance(question, MissingCredential):
            return ask_without(question)
        return ask_replacement(question) if isinstance(question, Replacement) else ask_host_access(question)

    def lacks(self, missing: MissingCredential) -> None:
        from engine.cli.asking.approval import warn_of_missing

        warn_of_missing(missing)

    def found(self, warnings: Iterable[Diagnostic], file: Path) -> None:
        from engine.cli.showing.findings import show

        show(warnings, file)

    def agreed_unseen(self, ask: Ask) -> None:
        from engine.cli.asking.approval import warn_of_credential

        warn_of_credential(ask)

    def changing(self, name: str, changes: tuple[Change, ...]) -> None:
        from engine.cli.asking.approval import show_changes

        if self._talks:
            show_changes(name, changes)

    def building(self, plan: Plan) -> None:
        if self._talks:
            click.echo(plan.render(), nl=False, err=True)

    def is_up(self, outcome: Outcome) -> None:
        self._is_up(outcome)

    def phase(self, title: str) -> None:
        if self.timings is not None:
            self.timings.begin(title)

    def reporter(self) -> Reporter:
        from engine.report.choice import make_reporter

        return make_reporter(sys.stderr, self._progress)

    @property
    def _talks(self) -> bool:
        return self._progress in ("auto", "plain")


async def _open_shell(guest: Guest, error: EngineError) -> None:
    from engine.cli.attached import run_within
    from engine.report.text import clean_line

    for line in (error.brief, *(error.details or "").splitlines()):
        click.echo(clean_line(line), err=True)
    click.echo("a shell in the guest as it was then; `exit` ends it", err=True)
    await run_within(guest.channel, ["bash"], user="root", cwd="/", tty=sys.stdin.isatty())
