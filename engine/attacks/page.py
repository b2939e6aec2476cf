"""The result of runs as a page, and as JSON: claim, verdict and states of each attempt, and what was not tried."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.attacks.case import HOST
from engine.attacks.judgement import HELD, NOT_TRIED, OUT, Outcome
from engine.attacks.run import NOT_ASKED, Result, all_cases
from engine.attacks.states import STATES, left_out
from engine.attacks.trial import words_of

VERSION = 1
_SAID = 300
_HEAD = """\
# Attacks

<!-- generated: sandbox doctor --attack --page docs/attacks.md -->

What root in the guest tries, and what must hold of it on both sides. `sandbox doctor --attack` tries it on your own
machine: it makes a throw-away sandbox in a network of its own, in which every frame is heard, with keys that are worth
nothing. Nothing of it leaves the machine. A verdict is *held*, *out*, or *not tried* with the reason. That the attempts
see what goes wrong is shown for fifteen of them, of ten groups: `tests/e2e/test_attack_suite.py` tries them on a
sandbox whose file allows what it should not, and they are out. That no attempt of the guest's holds which was not made
is shown for all of them by `tests/unit/attacks/test_attack_verdicts.py`.
"""


def to_json(result: Result) -> dict[str, Any]:
    """Of one run. What a guest said is in it only where something got out."""
    rows: dict[str, dict[str, Any]] = {}
    for state, outcomes in result.outcomes.items():
        for outcome in outcomes:
            case = outcome.case
            row = rows.setdefault(
                case.label,
                {
                    "id": case.label, "group": case.group, "kind": case.kind, "variant": case.variant,
                    "claim": case.claim, "side": "host" if case.needs == HOST else "guest", "states": {},
                },
            )  # fmt: skip
            seconds = round(outcome.seconds, 1)
            row["states"][state] = {"verdict": outcome.verdict, "why": _why(outcome), "seconds": seconds}
    counts = {verdict: result.count(verdict) for verdict in (HELD, OUT, NOT_TRIED)}
    return {
        "version": VERSION, "host": dict(result.host), "seconds": round(result.seconds), "counts": counts,
        "skipped": dict(result.skipped), "attempts": list(rows.values()),
    }  # fmt: skip


def _why(outcome: Outcome) -> str:
    if outcome.verdict == NOT_TRIED:
        return words_of(outcome.said.partition(": ")[2])[:_SAID]
    return words_of("; ".join(outcome.complaints))[:_SAID]


def summary_line(report: Mapping[str, Any]) -> str:
    """One sentence on a run."""
    counts, number = report["counts"], len(report["attempts"])
    states = len(_states(report))
    tried = counts[HELD] + counts[OUT]
    return (
        f"{number} attempts in {states} state{'s' * (states != 1)}, {tried} times tried: {counts[HELD]} held, "
        f"{counts[OUT]} out, {counts[NOT_TRIED]} not tried; {report['seconds'] // 60} min {report['seconds'] % 60} s"
    )


def _states(report: Mapping[str, Any]) -> list[str]:
    """That were run; one that could not be entered has a verdict, and was not."""
    tried = {state for attempt in report["attempts"] for state in attempt["states"]}
    return [state for state in STATES if state in tried and state not in report["skipped"]]


def merged(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One report for each host and user: runs of single states by the same user are one run."""
    found: dict[str, dict[str, Any]] = {}
    for report in reports:
        known = found.setdefault(json.dumps(report["host"], sort_keys=True), {**report, "seconds": 0, "attempts": []})
        known["seconds"] += report["seconds"]
        known["skipped"] = {state: why for state, why in known["skipped"].items() if state in report["skipped"]}
        attempts = {attempt["id"]: attempt for attempt in known["attempts"]}
        for attempt in report["attempts"]:
            states = attempts.get(attempt["id"], {}).get("states", {})
            attempts[attempt["id"]] = {**attempt, "states": {**states, **attempt["states"]}}
        known["attempts"] = list(attempts.values())
    for report in found.values():
        verdicts = [result["verdict"] for attempt in report["attempts"] for result in attempt["states"].values()]
        report["counts"] = {verdict: verdicts.count(verdict) for verdict in (HELD, OUT, NOT_TRIED)}
    return list(found.values())


def render_page(all_reports: Sequence[Mapping[str, Any]]) -> str:
    """The page of one run, or of several on the same program: root's, and an ordinary user's."""
    lines, reports = [_HEAD], merged(all_reports)
    for number, report in enumerate(reports, 1):
        lines.append(f"## Run {number}: {report['host'].get('user', '')}\n" if len(reports) > 1 else "## The run\n")
        lines += [f"- {name}: {text}" for name, text in report["host"].items()]
        lines.append(f"- states: {', '.join(_states(report))}")
        lines += [f"- result: {summary_line(report)}", *_not_run(report), ""]
    lines += ["## The attempts\n", *_explained(), "", *_missing(reports), ""]
    for group in sorted({attempt["group"] for report in reports for attempt in report["attempts"]}):
        lines += _group(group, reports)
    return "\n".join(lines).rstrip() + "\n"


def _explained() -> Iterable[str]:
    yield "States: " + "; ".join(f"*{name}*, {what}" for name, what in STATES.items()) + "."
    yield ""
    yield "A whole run makes all attempts when the sandbox is fresh. In another state it makes a third of those of each"
    yield "kind that the guest tries, at least one, a sixth of those of each kind that the host's side tries, and looks"
    yield "at the same things on the host: each control in each state, but for these. The number is that of the"
    yield "attempts made of a kind."
    yield ""
    yield "| state | what is not tried in it | why |"
    yield "|---|---|---|"
    for states, names, why in left_out():
        yield f"| {states} | {names} | {why} |"


def _missing(reports: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """How many attempts there are that no run of the page has tried, by group."""
    tried = {attempt["id"] for report in reports for attempt in report["attempts"]}
    missing = Counter(case.group for case in all_cases() if case.label not in tried)
    if missing:
        words = ", ".join(f"{number} of {group}" for group, number in sorted(missing.items()))
        yield f"In none of these runs were tried: {words}."
    else:
        yield "All attempts that there are were tried."


def _not_run(report: Mapping[str, Any]) -> Iterable[str]:
    if names := [state for state, why in report["skipped"].items() if why == NOT_ASKED]:
        yield f"- states that were not run: {', '.join(names)}"
    for state, why in report["skipped"].items():
        if why == NOT_ASKED:
            continue
        yield f"- the state *{state}* was not run: {why}"
    for attempt in report["attempts"]:
        why = {result["why"] for result in attempt["states"].values() if result["verdict"] == NOT_TRIED}
        if why:
            yield f"- not tried: {attempt['id']}: {'; '.join(sorted(why))}"


def _group(group: str, reports: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """A table: one line for each kind, with its worst verdict and the states of all its attempts."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for report in reports:
        for attempt in report["attempts"]:
            if attempt["group"] == group:
                kinds.setdefault(attempt["kind"], []).append(attempt)
    yield f"### {group}\n"
    yield "| attempt | number | claim | verdict | states |"
    yield "|---|---|---|---|---|"
    for kind, attempts in kinds.items():
        verdicts = {result["verdict"] for attempt in attempts for result in attempt["states"].values()}
        worst = next(verdict for verdict in (OUT, HELD, NOT_TRIED) if verdict in verdicts)
        states = [state for state in STATES if any(state in attempt["states"] for attempt in attempts)]
        number = len({attempt["id"] for attempt in attempts})
        claim = attempts[0]["claim"].replace("|", "\\|")
        yield f"| {kind} | {number} | {claim} | {worst} | {', '.join(states)} |"
    yield ""


def read_report(text: str) -> dict[str, Any]:
    """What `--json` printed. Raises ValueError if it is something else."""
    report = json.loads(text)
    if not isinstance(report, dict) or report.get("version") != VERSION or "attempts" not in report:
        raise ValueError("that is no result of `sandbox doctor --attack --json`")
    return report
