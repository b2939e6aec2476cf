"""What became of attempts: held or out, by what the guest saw and by what the gateway wrote meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.attacks.case import Case
from engine.attacks.guest.runner import BOOKMARK, KILLED, RAISED, RAN

Line = Mapping[str, Any]
Names = Mapping[str, str]
HELD, OUT, NOT_TRIED = "held", "out", "not tried"  # an attempt that cannot be tried says `not tried: why`
_ENDS = {RAN: "", RAISED: "its program broke off by an exception", KILLED: "it did not end, and was killed"}
# Words of a shell that could not do what the attempt is: no such command, no such directory, not in time.
_NOT_DONE = (r"code 12[567]$", r"can't cd to", r"no end$")
_LATE = 3  # attempts later: a connection that was allowed is written down when it has ended


@dataclass
class Outcome:
    """One attempt: what its guest said, the gateway's lines about it, and what is wrong with either.

    `end` is how its program ended: RAN, RAISED or KILLED, or nothing where the guest does not say. `seconds` it took.
    """

    case: Case
    said: str
    lines: list[Line] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    end: str = RAN
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        if self.complaints:
            return OUT
        return NOT_TRIED if self.said.startswith(f"{NOT_TRIED}: ") else HELD


def judge(cases: Sequence[Case], said: Mapping[str, str], journal: Iterable[Line], names: Names) -> list[Outcome]:
    """`said` is by label; `journal` is of the time of the batch, with the bookmarks in it. `names` are the stage's."""
    outcomes = [_read(case, said.get(case.label)) for case in cases]
    at = -1
    for line in journal:
        match = BOOKMARK.fullmatch(line["host"] or "")
        if match:
            at = int(match[1])
        elif 0 <= at < len(outcomes):
            _attribute(outcomes, at, line, names)
    for outcome in outcomes:
        _complain(outcome, names)
    return outcomes


def _read(case: Case, text: str | None) -> Outcome:
    """With the last line taken off, which says how the attempt ended."""
    if text is None:
        return Outcome(case, "", complaints=["nothing was said of it: it was not run"], end="")
    said, _, end = text.rpartition("\n")
    if end not in _ENDS:
        return Outcome(case, text, complaints=["the guest does not say how it ended"], end="")
    return Outcome(case, said, complaints=[_ENDS[end]] if _ENDS[end] else [], end=end)


def _attribute(outcomes: Sequence[Outcome], at: int, line: Line, names: Names) -> None:
    """To the attempt that expects it: the one of the moment, or one shortly before."""
    for outcome in reversed(outcomes[max(0, at - _LATE) : at + 1]):
        if any(_fits(line, wanted, names) for wanted in outcome.case.journal):
            outcome.lines.append(line)
            return
    outcomes[at].lines.append(line)


def _complain(outcome: Outcome, names: Names) -> None:
    case = outcome.case
    if outcome.said.startswith(f"{NOT_TRIED}: ") and not outcome.lines:
        return
    for words in _NOT_DONE:
        if (found := re.search(words, outcome.said, re.MULTILINE)) and not _names(case.guest, found[0]):
            outcome.complaints.append(f"it was not done: {found[0]!r} in {outcome.said[:600]!r}")
    if not re.search(_filled(case.guest, names), outcome.said, re.DOTALL):
        outcome.complaints.append(f"the guest saw {outcome.said[:600]!r} and not {case.guest!r}")
    for wanted in case.journal:
        if not any(_fits(line, wanted, names) for line in outcome.lines):
            outcome.complaints.append(f"no line of the journal is {dict(wanted)}")
    for line in outcome.lines:
        if not any(_fits(line, wanted, names) for wanted in case.journal):
            shown = {key: line.get(key) for key in ("verdict", "host", "port", "how", "method", "path", "reason")}
            outcome.complaints.append(f"the journal has {shown}")


def _names(pattern: str, words: str) -> bool:
    """Whether a case expects these very words: a code by its number, the others as they are."""
    return words.removeprefix("code ") in pattern


def _fits(line: Line, wanted: Mapping[str, str], names: Names) -> bool:
    for key, pattern in wanted.items():
        value = str(line.get(key))
        match = re.search if key == "reason" else re.fullmatch
        if not match(_filled(pattern, names), value):
            return False
    return True


def _filled(pattern: str, names: Names) -> str:
    """With `{name}` replaced by what the stage calls so."""
    for name, value in names.items():
        pattern = pattern.replace(f"{{{name}}}", re.escape(value))
    return pattern


def summary(outcomes: Iterable[Outcome], state: str) -> str:
    """A line for each attempt: state, group, name, verdict, claim; of one that got out what is wrong, too."""
    rows = []
    for outcome in outcomes:
        case = outcome.case
        rows.append(f"{outcome.verdict:<9} {state:<12} {case.label:<58} {case.claim}")
        rows += [f"       {complaint}" for complaint in outcome.complaints]
    return "\n".join(rows)
