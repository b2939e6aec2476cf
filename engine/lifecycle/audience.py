"""The other side of an `up`: a person at a terminal, or the program that called it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.report.events import EventReporter

if TYPE_CHECKING:
    from engine.build.context import OnFailure
    from engine.lifecycle.outcome import Outcome
    from engine.lifecycle.sign_in import MissingCredential
    from engine.plan.build_plan import Plan
    from engine.plan.changes import Change
    from engine.report.reporter import Reporter
    from engine.trust.agreement import HostAccess
    from engine.trust.asks import Ask
    from sandboxfile import Diagnostic


@dataclass(frozen=True)
class Replacement:
    """The question: may the running sandbox `name` be replaced by a new machine?

    What is only on the disk of the old machine is lost then. `changes` are the changes that `up` has to make.
    """

    name: str
    changes: tuple[Change, ...]


class Audience:
    """Is told what an `up` does, and answers its questions. This class ignores what it is told, and answers None.

    All methods are called in the thread that runs the `up`, except those of the reporter.
    """

    on_failure: OnFailure | None = None  # called with the guest of a failed setup step, while the guest still runs

    def ask(self, question: HostAccess | Replacement | MissingCredential) -> bool | None:
        """Put the question: True for yes, False for no, None where nobody is there to answer."""
        return None

    def lacks(self, missing: MissingCredential) -> None:
        """The sandbox is started without a credential of its agent."""

    def found(self, warnings: Iterable[Diagnostic], file: Path) -> None:
        """There are warnings about `file`, which keep nobody from using it."""

    def agreed_unseen(self, ask: Ask) -> None:
        """`yes` has agreed to `ask`, which the file does not name, so that its reader cannot know about it."""

    def changing(self, name: str, changes: tuple[Change, ...]) -> None:
        """The running sandbox `name` is changed now, or replaced."""

    def building(self, plan: Plan) -> None:
        """The plan is carried out now."""

    def is_up(self, outcome: Outcome) -> None:
        """A sandbox runs as its file says."""

    def phase(self, title: str) -> None:
        """Something else begins that takes its time."""

    def reporter(self) -> Reporter:
        """A context manager that is told about the progress."""
        return EventReporter(lambda event: None)
