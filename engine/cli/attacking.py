"""`sandbox doctor --attack`: its words, and where its result goes."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

OUT_OF_IT = 1  # exit code: something got out, or a state could not be entered


def run_attack(
    groups: Sequence[str], states: Sequence[str], as_json: bool, page: Path | None, earlier: Sequence[Path]
) -> int:
    """Try it, tell the progress, write the page; the exit code. Raises EngineError and click's errors for misuse."""
    from engine.attacks.page import read_report, render_page, summary_line
    from engine.attacks.run import Wanted
    from engine.attacks.run import groups as all_groups
    from engine.cache.store import Store
    from engine.cli.running import run
    from engine.lifecycle.attacking import attack, describe_host
    from engine.lifecycle.selection import open_layout

    if unknown := sorted(set(groups) - set(all_groups())):
        known = ", ".join(all_groups())
        raise click.BadParameter(f"there is no group {unknown[0]}; there are {known}", param_hint="--group")
    try:
        reports = [read_report(path.read_text()) for path in earlier]
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--earlier") from None
    layout = open_layout()
    for number in (signal.SIGTERM, signal.SIGHUP):  # as ^C does: sandbox and stage end with this process
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    wanted = Wanted(frozenset(groups), tuple(states))
    report = attack(layout, wanted, os.environ, lambda text: click.echo(text, err=True))
    report["host"] |= run(describe_host(Store(layout)))
    if page is not None:
        page.write_text(render_page([*reports, report]))
    click.echo(
        json.dumps(report, indent=2)
        if as_json
        else "\n".join([*failures(report), *not_run(report), summary_line(report)])
    )
    return OUT_OF_IT if report["counts"]["out"] or not_run(report) else 0


def failures(report: dict[str, Any]) -> list[str]:
    """A line for each attempt that got out, and for each that was not tried."""
    return [
        f"{result['verdict']}: {attempt['id']}, {state}: {result['why']}"
        for attempt in report["attempts"]
        for state, result in attempt["states"].items()
        if result["verdict"] != "held"
    ]


def not_run(report: dict[str, Any]) -> list[str]:
    """A line for each state that was asked for, and was not run to its end."""
    from engine.attacks.run import NOT_ASKED

    return [f"not run: {state}: {why}" for state, why in report["skipped"].items() if why != NOT_ASKED]
