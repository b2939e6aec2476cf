"""No attempt holds by what it says when it was not made: silence, an exception, a missing program, a wrong place."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from engine.attacks.batch import COMMAND, make_order, read_answers
from engine.attacks.case import Case, load_cases
from engine.attacks.guest import containers, runner
from engine.attacks.judgement import HELD, NOT_TRIED, Outcome, judge

NAMES = {
    "managed": "api.anthropic.com", "second": "api.github.com", "spliced": "other.example.com", "held": "sk-held",
    "taken": "taken.example.com", "denied": "no.wild.example.com", "held_second": "ghp-held", "outside": "/outside",
    "third": "api.openai.com", "held_third": "sk-third", "source": "attacked", "clone": "attacked-2",
    "hidden": "hidden from the guest", "host": "45.33.32.1", "vendor": "45.33.32.156",
}  # fmt: skip
NOT_MADE = {
    "no line of it": None,
    "nothing at all": "",
    "no word": "\n[ran]",
    "no end of the program's": "end",
    "an exception": "ValueError: none\nTraceback (most recent call last):\n  none\nValueError: none\n\n[raised]",
    "an error of the system": "OSError: [Errno 101] Network is unreachable\n[raised]",
    "an exception at the end": "file\nend\n[raised]",
    "killed": "\n[killed]",
    "killed behind its words": "end\n[killed]",
    "as an earlier runner said it": "\nno end",
    "a shell without an end": "no end\n[ran]",
    "a shell without an end, and more": "no end\nend\n[ran]",
    "no such program": "sh: 1: findmnt: not found\ncode 127\n[ran]",
    "a program that does not run": "sh: 1: cat: Permission denied\ncode 126\n[ran]",
    "a container that does not start": "docker: Cannot connect to the Docker daemon.\ncode 125\n[ran]",
    "no such directory": "sh: 1: cd: can't cd to /raw\ncode 2\n[ran]",
    "no such directory, and more": "sh: 1: cd: can't cd to /raw\ncat: x: No such file or directory\ncode 1\n[ran]",
}

# Of what is tried from a container.
NOT_IN_CONTAINER = {
    "a container that died at once": "0f1e2d3c4b5a\ncode 0\n[ran]",
    "namespaces that are gone": "nsenter: cannot open /proc/812/ns/net: No such file or directory\ncode 1\n[ran]",
}


def judged(case: Case, text: str | None) -> Outcome:
    """By what the guest says alone: the journal has all that the case expects of it."""
    (outcome,) = judge([replace(case, journal=())], {} if text is None else {case.label: text}, [], NAMES)
    return outcome


@pytest.mark.parametrize("text", NOT_MADE.values(), ids=list(NOT_MADE))
def test_no_attempt_holds_that_was_not_made(text: str | None) -> None:
    held = {case.label for case in load_cases() if judged(case, text).verdict == HELD}
    assert not held, f"{len(held)}: {sorted({label.partition(' (')[0] for label in held})}"


@pytest.mark.parametrize("text", NOT_IN_CONTAINER.values(), ids=list(NOT_IN_CONTAINER))
def test_no_attempt_holds_whose_container_did_not_run(text: str) -> None:
    cases = [case for case in load_cases() if "inside(" in case.attack or "docker run" in case.attack]
    assert len(cases) >= 10 and not [case.label for case in cases if judged(case, text).verdict == HELD]


def test_a_hidden_file_is_asked_for_where_another_is_read() -> None:
    case = next(case for case in load_cases() if case.label == "hidden: a hidden file (by its name)")
    assert judged(case, "file\ncat: key.pem: No such file or directory\ncode 1\n[ran]").verdict == HELD
    assert judged(case, "cat: key.pem: No such file or directory\ncode 1\n[ran]").verdict != HELD
    assert judged(case, "file\nhidden from the guest\ncode 1\n[ran]").verdict != HELD


def test_what_a_case_expects_by_its_number_may_come() -> None:
    case = Case("g", "k", "C.", "", "^code 127$")
    assert judged(case, "code 127\n[ran]").verdict == HELD
    assert judged(replace(case, guest="code [1-9]"), "code 127\n[ran]").verdict != HELD
    assert judged(replace(case, guest="no end"), "no end\n[ran]").verdict == HELD


def test_an_attempt_that_broke_off_is_not_one_that_cannot_be_tried() -> None:
    case = Case("g", "k", "C.", "", "^end$")
    assert judged(case, "not tried: no device\n[ran]").verdict == NOT_TRIED
    assert judged(case, "not tried: no device\nOSError: none\n[raised]").verdict == "out"


def test_a_container_that_does_not_run_breaks_an_attempt_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_process_of", lambda name: 0)
    monkeypatch.setattr(containers, "shell", lambda command, timeout_s: "0f1e2d3c4b5a\ncode 0")
    with pytest.raises(RuntimeError, match="0f1e2d3c4b5a"):
        containers.inside("", "true")


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ("say('end')", "end\n[ran]"),
        ("say('end'); raise OSError('none')", "end\nOSError: none\n[raised]"),
        ("say('end'); raise SystemExit(0)", "end\nSystemExit: 0\n[raised]"),
        ("say('x' * 9000)", "x" * 6000 + "\n[ran]"),
        ("import os; say('end'); os._exit(0)", ""),
    ],
)
def test_the_guest_says_how_an_attempt_ended(attack: str, said: str) -> None:
    assert run_in_process(attack) == said


def test_an_attempt_without_an_end_is_killed_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LONGEST_S", 0.2)
    case = {"label": "g: k", "attack": "import time; say('end'); time.sleep(60)", "value": ""}
    assert runner._attempt(case, {"gateway": {}}) == "\n[killed]"


def run_in_process(attack: str) -> str:
    stage: dict[str, Any] = {"gateway": {"80": "/nonexistent", "443": "/nonexistent"}}
    order = make_order([Case("g", "k", "C.", attack, "")], stage)
    ran = subprocess.run([sys.executable, "-I", *COMMAND[1:]], input=order, capture_output=True, text=True, check=True)
    json.loads(ran.stdout)
    return read_answers(ran.stdout)["g: k"]
