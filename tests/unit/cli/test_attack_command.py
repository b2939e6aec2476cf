"""`sandbox doctor --attack`: what it is asked for, what it prints and writes, and how it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli import attacking, json_errors
from engine.cli.group import cli
from engine.lifecycle import attacking as lifecycle

REPORT: dict[str, Any] = {
    "version": 1,
    "host": {"user": "root"},
    "seconds": 61,
    "counts": {"held": 1, "out": 0, "not tried": 0},
    "skipped": {},
    "attempts": [
        {
            "id": "g: k", "group": "g", "kind": "k", "variant": "", "claim": "It holds.", "side": "guest",
            "states": {"fresh": {"verdict": "held", "why": ""}},
        }
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was asked for, instead of a sandbox; signals are as before afterwards."""
    asked: list[Any] = []

    def attack(layout: Any, wanted: Any, environment: Any, tell: Any) -> dict[str, Any]:
        asked.append(wanted)
        tell("on its way")
        return json.loads(json.dumps(REPORT))  # type: ignore[no-any-return]

    async def describe(store: Any) -> dict[str, str]:
        return {"QEMU": "10"}

    monkeypatch.setattr(json_errors, "_wanted", False)  # a process notes --json for good
    monkeypatch.setattr(lifecycle, "attack", attack)
    monkeypatch.setattr(lifecycle, "describe_host", describe)
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield asked
    for number, handler in kept.items():
        signal.signal(number, handler)


def doctor(*argv: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *argv])


def test_it_says_in_a_line_what_came_of_it(no_sandbox: list[Any]) -> None:
    ran = doctor("--attack", "--group", "network", "--state", "fresh")
    assert ran.exit_code == 0 and "1 attempts in 1 state, 1 times tried: 1 held, 0 out" in ran.output
    assert no_sandbox[0].groups == {"network"} and no_sandbox[0].states == ("fresh",)


def test_it_ends_with_one_when_something_got_out(monkeypatch: pytest.MonkeyPatch) -> None:
    result = {"verdict": "out", "why": "a word"}
    monkeypatch.setitem(REPORT["attempts"][0]["states"], "fresh", result)
    monkeypatch.setitem(REPORT["counts"], "out", 1)
    ran = doctor("--attack")
    assert ran.exit_code == attacking.OUT_OF_IT and "out: g: k, fresh: a word" in ran.output


def test_a_state_that_was_not_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPORT, "skipped", {"forked": "no memory", "resumed": "not asked for"})
    ran = doctor("--attack")
    assert ran.exit_code == attacking.OUT_OF_IT and "not run: forked: no memory" in ran.output
    assert "resumed" not in ran.output


def test_a_page_has_earlier_results_as_well(tmp_path: Path) -> None:
    earlier, page = tmp_path / "a.json", tmp_path / "page.md"
    earlier.write_text(json.dumps({**REPORT, "host": {"user": "an ordinary user"}}))
    assert doctor("--attack", "--json", "--page", str(page), "--earlier", str(earlier)).exit_code == 0
    text = page.read_text()
    assert "## Run 1: an ordinary user" in text and "## Run 2: root" in text and "- QEMU: 10" in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--group", "network"], "are for --attack"),
        (["--page", "x"], "are for --attack"),
        (["--attack", "--group", "nonsense"], "no group nonsense; there are"),
        (["--attack", "--state", "nonsense"], "no state nonsense; there are"),
        (["--attack", "--earlier", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_makes_no_sense_is_refused(argv: list[str], said: str) -> None:
    ran = doctor(*argv)
    assert ran.exit_code == 2 and said in ran.output
