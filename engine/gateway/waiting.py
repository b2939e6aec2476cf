"""Connections to names that no rule speaks of, held while somebody is asked about the name.

They are held only while somebody watches. All that ask for one name wait for one answer, which is a rule that speaks of
it; without one they are refused as always. Everything is bounded, since the guest chooses the names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from engine.gateway.names import BadName, canonical_name
from engine.gateway.policy import Policy

WAIT_S = 60.0
QUIET_S = 600.0  # in which a name that nobody answered for is not asked about again
MOST_NAMES = 16
MOST_HELD = 64
_MOST_QUIET = 1000
_MOST_EVENTS = 1000  # that a watcher who does not read may miss the rest of


@dataclass(eq=False)
class Question:
    """May the guest reach this host and port? `deadline` is in the loop's time; the answer is said in words.

    `why` are words of the guest's, if it has asked for the name.
    """

    host: str
    port: int
    deadline: float
    answer: asyncio.Future[str]
    why: str = ""
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True)
class Event:
    """A question was opened, or, with `why`, it is closed."""

    question: Question
    why: str | None = None


class Waiting:
    """The questions of one gateway."""

    def __init__(self, wait_s: float = WAIT_S, quiet_s: float = QUIET_S) -> None:
        self.held = 0
        self._wait_s = wait_s
        self._quiet_s = quiet_s
        self._open: dict[tuple[str, int], Question] = {}
        self._quiet: dict[tuple[str, int], float] = {}  # until when
        self._watchers: set[asyncio.Queue[Event]] = set()

    @contextmanager
    def watch(self) -> Iterator[asyncio.Queue[Event]]:
        """Hear of questions, first of those that are open. When the last watcher goes, nobody is waited for."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_MOST_EVENTS)
        for question in self._open.values():
            queue.put_nowait(Event(question))
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)
            if not self._watchers:
                for question in list(self._open.values()):
                    self._close(question, "nobody is there any more to be asked")

    async def hold(self, host: str, port: int, policy: Policy, why: str = "") -> str:
        """Wait until it is known what becomes of a name that no rule speaks of, at most WAIT_S.

        Returns at once where nobody can be asked, and for what no endpoint can name. What was said is for the journal.
        """
        if not self._watchers or not _can_be_named(host) or policy.decide(host, port).rule is not None:
            return ""
        question = self._open.get((host, port)) or self._ask(host, port, why)
        if question is None or self.held >= MOST_HELD:
            return ""
        self.held += 1
        try:
            return await asyncio.shield(question.answer)
        finally:
            self.held -= 1

    def review(self, policy: Policy) -> None:
        """Another policy is in force: whoever waits for a name that it speaks of goes on."""
        for question in list(self._open.values()):
            if policy.decide(question.host, question.port).rule is not None:
                self._close(question, "")

    def dismiss(self, host: str, port: int) -> bool:
        """Refuse whoever waits for this name, and do not ask about it for a while. False where nobody waits."""
        question = self._open.get((host, port))
        if question is not None:
            self._close(question, "whoever was asked did not allow it", quiet=True)
        return question is not None

    def _ask(self, host: str, port: int, said: str) -> Question | None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._quiet.get((host, port), 0.0) > now or len(self._open) >= MOST_NAMES:
            return None
        question = Question(host, port, now + self._wait_s, loop.create_future(), said)
        why = f"nobody answered within {self._wait_s:g} s"
        question.timer = loop.call_later(self._wait_s, lambda: self._close(question, why, quiet=True))
        self._open[host, port] = question
        self._tell(Event(question))
        return question

    def _close(self, question: Question, why: str, *, quiet: bool = False) -> None:
        if self._open.pop((question.host, question.port), None) is None:
            return
        if question.timer is not None:
            question.timer.cancel()
        if quiet:
            self._quiet.pop((question.host, question.port), None)
            self._quiet[question.host, question.port] = asyncio.get_running_loop().time() + self._quiet_s
            if len(self._quiet) > _MOST_QUIET:
                del self._quiet[next(iter(self._quiet))]
        question.answer.set_result(why)
        self._tell(Event(question, why))

    def _tell(self, event: Event) -> None:
        for queue in self._watchers:
            with suppress(asyncio.QueueFull):
                queue.put_nowait(event)


def _can_be_named(host: str) -> bool:
    """Whether a plain endpoint can have it: a name of one label is a group, and localhost is the guest itself."""
    try:
        return canonical_name(host) == host and "." in host and not host.endswith(".localhost")
    except BadName:
        return False
