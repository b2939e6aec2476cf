"""Who an `up` talks to: a person at a terminal, or the program that calls it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.report.events import EventReporter

if TYPE_CHECKING:
    from engine.build.context import OnFailure
    from engine.lifecycle.outcome import Outcome
    from engine.plan.build_plan import Plan
    from engine.plan.changes import Change
    from engine.report.reporter import Reporter
    from engine.trust.agreement import HostAccess
    from engine.trust.asks import Ask
    from sandboxfile import Diagnostic


@dataclass(frozen=True)
class Replacement:
    """The question: may the sandbox `name`, which runs, be replaced by a new machine? What is only on its disk is
    lost then. `changes` are what it cannot take over while it runs."""

    name: str
    changes: tuple[Change, ...]


class Audience:
    """Hears what an `up` does and answers its questions. This one hears nothing, and nobody answers.

    All calls come from the thread that runs the `up`, but for the reporter's.
    """

    on_failure: OnFailure | None = None  # called in the place where a setup step failed, with its guest

    def ask(self, question: HostAccess | Replacement) -> bool | None:
        """True agrees, False does not; None: nobody is here to be asked."""
        return None

    def found(self, warnings: Iterable[Diagnostic], file: Path) -> None:
        """What was found in `file` that keeps nobody from using it."""

    def agreed_unseen(self, ask: Ask) -> None:
        """Something was agreed to in advance, and whoever did that cannot have read of it in the file."""

    def changing(self, name: str, changes: tuple[Change, ...]) -> None:
        """A running sandbox is changed now."""

    def building(self, plan: Plan) -> None:
        """This is carried out now."""

    def is_up(self, outcome: Outcome) -> None:
        """A sandbox runs as its file says."""

    def reporter(self) -> Reporter:
        """What hears of the progress, as a context manager."""
        return EventReporter(lambda event: None)
