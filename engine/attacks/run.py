"""A whole run: the sandbox goes through its states, and in each all that is for it is tried."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from engine.attacks.batch import COMMAND, make_order, read_answers, read_times
from engine.attacks.case import Case, load_cases, share
from engine.attacks.host import channel, clones, ends, growth, liar, surroundings, tools, values
from engine.attacks.host.check import Check, NotTried
from engine.attacks.judgement import NOT_TRIED, Outcome, judge
from engine.attacks.project import REAL, ROTATED, SETTING, inward_names
from engine.attacks.room import enter_stage, open_room, why_not
from engine.attacks.states import FRESH, STATES, why_left_out
from engine.attacks.transitions import enter_state
from engine.attacks.trial import Trial, build, prepare, words_of
from engine.errors import EngineError

RUN_S = 1800.0
# Beside `fresh`, a state gets one of so many shares of what the guest tries, and of what is tried on the host: some of
# each kind.
SHARES, HOST_SHARES = 3, 6
SLOW_S = 20.0  # what takes longer is told
# In this order: what may end the sandbox comes late, and what is around it is looked at when all has been tried.
CHECKS: tuple[Check, ...] = (
    *tools.CHECKS, *growth.CHECKS, *values.CHECKS, *ends.ALIVE, *clones.CHECKS, *channel.CHECKS, *liar.CHECKS,
    *ends.CHECKS, *surroundings.CHECKS,
)  # fmt: skip
NOT_ASKED, ENDED = "not asked for", "the run was ended before"
TRANSITIONS = "states"  # the group of what must be so after a change of the state
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What to try; nothing named is all of it. `loose` weakens the sandbox, so that attempts have to get out."""

    groups: frozenset[str] = frozenset()
    states: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()
    loose: bool = False

    def has(self, case: Case) -> bool:
        return (not self.groups or case.group in self.groups) and (not self.labels or case.label in self.labels)

    def visits(self, state: str) -> bool:
        return not self.states or state in self.states


@dataclass
class Result:
    """Outcomes by state, in its order; `skipped` are states that were not entered, and why.

    One that could not be entered has an outcome as well, of the way there, which is out.
    """

    host: dict[str, str]
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def all(self) -> list[Outcome]:
        return [outcome for outcomes in self.outcomes.values() for outcome in outcomes]

    def count(self, verdict: str) -> int:
        return sum(outcome.verdict == verdict for outcome in self.all())


def all_cases() -> list[Case]:
    """What the guest tries, and what is tried on the host's side."""
    return [*load_cases(), *(check.case for check in CHECKS)]


def groups() -> list[str]:
    """All of them, in the order of their names."""
    return sorted({TRANSITIONS, *(case.group for case in all_cases())})


def cases_for(state: str, wanted: Wanted) -> list[Case]:
    """What the guest tries in a state: all of it when it is fresh, or when something was named."""
    cases = [case for case in load_cases() if _is_tried(case, state, wanted)]
    return cases if _whole(state, wanted) else share(cases, list(STATES).index(state), SHARES)


def checks_for(state: str, wanted: Wanted) -> list[Check]:
    """What is tried, or looked at, on the host's side in a state."""
    checks = [check for check in CHECKS if _is_tried(check.case, state, wanted)]
    return checks if _whole(state, wanted) else share(checks, list(STATES).index(state), HOST_SHARES)


def _is_tried(case: Case, state: str, wanted: Wanted) -> bool:
    return case.is_for(state) and wanted.has(case) and not why_left_out(state, case)


def _whole(state: str, wanted: Wanted) -> bool:
    return state == FRESH or bool(wanted.labels or wanted.groups)


def run_attacks(wanted: Wanted, environment: Mapping[str, str], cache: Path, tell: Tell) -> Result:
    """Try it. It takes minutes, under emulation the better part of an hour; `tell` hears how far it is.

    Whoever ends it gets what has been tried in whole states. Raises EngineError if this host has no way to it, or the
    sandbox does not start.
    """
    if why := why_not():
        raise EngineError(why, hint="they can be tried as root, or where ordinary users may make namespaces")
    began = time.monotonic()
    result = Result(describe())
    with open_room(environment, cache) as room:
        tell("what the sandbox needs is built")
        trial = prepare(room, loose=wanted.loose)
        build(trial)
        with enter_stage(room, inward_names(load_cases())):
            try:
                for state in STATES:
                    _visit(state, trial, wanted, result, tell)
            except (KeyboardInterrupt, SystemExit):
                if not result.outcomes:
                    raise
                result.skipped |= {state: ENDED for state in STATES if state not in {*result.outcomes, *result.skipped}}
    result.seconds = time.monotonic() - began
    return result


def _visit(state: str, trial: Trial, wanted: Wanted, result: Result, tell: Tell) -> None:
    if not wanted.visits(state):
        result.skipped[state] = NOT_ASKED
        if state == FRESH:  # every other state begins with it
            enter_state(trial, state)
        return
    tell(f"{state}: {STATES[state]}")
    began, known = time.monotonic(), len(trial.problems)
    try:
        enter_state(trial, state)
    except EngineError as error:
        if state == FRESH:
            raise
        result.skipped[state] = f"the sandbox could not be brought there: {error.brief}"
        tell(words_of(f"{result.skipped[state]} {error.details or ''}"))
        trial.problems.append(f"{error.brief} {error.hint or ''}")
        try:  # so that the next state begins with one that runs
            trial.call("down", "--yes")
            trial.renew()
        except EngineError as again:
            trial.problems.append(f"nor made anew: {again.brief}")
        result.outcomes[state] = [_transition(state, trial.problems[known:])]  # whatever was asked for: it is missing
        _tell_one(result.outcomes[state][0], tell)
        return
    transition = _transition(state, trial.problems[known:])
    outcomes = [transition] if wanted.has(transition.case) else []
    outcomes += _in_guest(state, trial, wanted)
    tell(f"  tried in the guest: {len(outcomes)}, after {time.monotonic() - began:.0f} s")
    for outcome in outcomes:
        _tell_one(outcome, tell)
    for check in checks_for(state, wanted):
        outcomes.append(look(check, trial))
        _tell_one(outcomes[-1], tell)
    result.outcomes[state] = outcomes
    held = sum(not one.complaints for one in outcomes)
    tell(f"{state}: {held} of {len(outcomes)} held, after {time.monotonic() - began:.0f} s")


def _tell_one(outcome: Outcome, tell: Tell) -> None:
    if outcome.complaints:
        tell(f"  {outcome.verdict}: {words_of(outcome.case.label)}: {words_of(outcome.complaints[0])}")
    if outcome.seconds > SLOW_S:
        tell(f"  {outcome.seconds:.0f} s: {outcome.case.label}")


def _transition(state: str, problems: Sequence[str]) -> Outcome:
    case = Case(TRANSITIONS, state, f"The sandbox becomes what the state says: {STATES[state]}.", "", "")
    return Outcome(case, "", complaints=list(problems))


def _in_guest(state: str, trial: Trial, wanted: Wanted) -> list[Outcome]:
    cases = cases_for(state, wanted)
    if not cases:
        return []
    before = len(trial.journal())
    argv = ("exec", "-i", "-u", "root", "-w", "/", "--", *COMMAND)
    ran = trial.call(*argv, stdin=make_order(cases, {**trial.names, **SETTING}), timeout_s=RUN_S)
    said, seconds = read_answers(ran.out), read_times(ran.out)
    outcomes = judge(cases, said, trial.journal()[before:], trial.names)
    for outcome in outcomes:
        outcome.seconds = seconds.get(outcome.case.label, 0.0)
        if [value for value in (*REAL.values(), ROTATED) if value in outcome.said]:
            outcome.complaints.append("the guest saw the real value of a secret")
    return outcomes


def look(check: Check, trial: Trial) -> Outcome:
    """Try one check. An error of ours is a complaint, too, and a bug: what was not seen did not hold."""
    outcome, began = Outcome(check.case, ""), time.monotonic()
    try:
        outcome.complaints += check.look(trial)
    except NotTried as reason:
        outcome.said = f"{NOT_TRIED}: {reason}"
    except (EngineError, OSError) as error:
        outcome.complaints.append(f"it could not be seen whether it holds: {error}")
    except Exception as error:  # what it read has a form that nobody thought of; the other checks go on
        outcome.complaints.append(f"it could not be seen whether it holds: {error!r}")
    outcome.seconds = time.monotonic() - began
    return outcome


def describe() -> dict[str, str]:
    """Of the host and its user, without a name of either."""
    kernel = platform.release().partition("-")[0]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "system": f"{platform.system()} {kernel}, {platform.machine()}",
        "user": "root" if os.geteuid() == 0 else "an ordinary user",
    }
