"""The attempts are well-formed, and what goes wrong with one is seen, whichever side shows it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from engine.attacks.batch import make_order, read_answers
from engine.attacks.case import GATEWAY, Case, load_cases, read_group, share
from engine.attacks.judgement import judge, summary
from engine.errors import EngineError

GROUPS = {
    *("names", "tls", "http", "credentials", "network", "mounts", "docker", "tampering", "live"),
    *("hidden", "raw-mounts", "kernel"),
}
WANTED = {"verdict": "refused", "host": "{evil}", "reason": "no endpoint"}
ONE = Case("http", "one", "It is refused.", "say(1)", "^HTTP/1.1 403", (WANTED,))
QUIET = Case("network", "two", "Nothing leaves.", "say(1)", "^nothing$")
NAMES = {"evil": "evil.example.net"}
REFUSED = {"verdict": "refused", "host": "evil.example.net", "reason": "no endpoint names it"}


def bookmark(number: int) -> dict[str, Any]:
    return {"verdict": "refused", "host": f"attempt-{number}.bookmark.invalid", "reason": "no endpoint names it"}


def complaints(said: str, *lines: dict[str, Any], late: tuple[dict[str, Any], ...] = ()) -> list[str]:
    """Of ONE, when QUIET came after it; QUIET has none itself."""
    journal = [bookmark(0), *lines, bookmark(1), *late, bookmark(2)]
    one, quiet = judge([ONE, QUIET], {ONE.label: f"{said}\n[ran]", QUIET.label: "nothing\n[ran]"}, journal, NAMES)
    assert quiet.verdict == "held", quiet
    return one.complaints


def test_the_attempts_are_enough_of_each_kind_in_each_state() -> None:
    cases = load_cases()
    assert len({case.label for case in cases}) == len(cases)
    assert {case.group for case in cases} == GROUPS | {"revoked", "forked"}
    for state in ("fresh", "restored", "live-changed", "revoked"):
        count = Counter(case.group for case in cases if case.is_for(state))
        assert count.total() >= 60 and set(count) >= GROUPS - {"live"}, (state, count)
    assert all(case.claim.endswith(".") for case in cases)
    # Of what needs a gateway only, contract tests try all.
    assert sum(case.needs == GATEWAY for case in cases) >= 150


def test_shares_have_every_kind_and_are_all_together() -> None:
    cases = load_cases()
    shares = [share(cases, number, 3) for number in range(3)]
    assert {case.label for each in shares for case in each} == {case.label for case in cases}
    for each in shares:
        assert {(case.group, case.kind) for case in each} == {(case.group, case.kind) for case in cases}
        assert 60 <= len(each) < len(cases) / 2


def test_what_is_as_expected_holds() -> None:
    assert complaints("HTTP/1.1 403 Forbidden", REFUSED) == []
    # An entry may come a little late: a connection is written down at its end.
    assert complaints("HTTP/1.1 403 Forbidden", late=(REFUSED,)) == []


def test_another_answer_is_seen() -> None:
    (complaint,) = complaints("HTTP/1.1 200 OK", REFUSED)
    assert "HTTP/1.1 200 OK" in complaint


def test_a_missing_line_is_seen() -> None:
    (complaint,) = complaints("HTTP/1.1 403 Forbidden")
    assert complaint.startswith("no line of the journal is")


@pytest.mark.parametrize("line", [{**REFUSED, "verdict": "allowed"}, {**REFUSED, "host": "evilXexample.net"}])
def test_a_line_that_nobody_expects_is_seen(line: dict[str, Any]) -> None:
    (complaint,) = complaints("HTTP/1.1 403 Forbidden", REFUSED, line)
    assert complaint.startswith("the journal has")


def test_an_attempt_that_should_not_reach_the_gateway_is_seen_there() -> None:
    said = {ONE.label: "HTTP/1.1 403\n[ran]", QUIET.label: "nothing\n[ran]"}
    journal = [bookmark(0), REFUSED, bookmark(1), {**REFUSED, "verdict": "allowed", "host": "a.example"}, bookmark(2)]
    one, quiet = judge([ONE, QUIET], said, journal, NAMES)
    assert (one.verdict, quiet.verdict) == ("held", "out")


def test_an_attempt_that_was_not_run_is_no_success() -> None:
    (outcome,) = judge([QUIET], {}, [bookmark(0), bookmark(1)], NAMES)
    assert outcome.verdict == "out"
    words = summary([outcome], "fresh").splitlines()[0].split()
    assert words == ["out", "fresh", "network:", "two", "Nothing", "leaves."]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a", "cannot be read"),
        ("needs = 'luck'", "need a luck"),
        ("[a]\nclaim = 'C.'\nguest = '.'", "lacks attack"),
        ("[a]\nclaim = 'C.'\nguest = '.'\nattack = 'say('", "is no Python"),
        ("[a]\nclaim = 'C.'\nguest = '.'\nattack = ''\ntypo = 1", "unknown keys: typo"),
        ("[a]\nclaim = 'C.'\nguest = '.'\nattack = ''\njournal = [{colour = 'red'}]", "no journal has: colour"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(EngineError) as caught:
        read_group("group", text)
    assert said in caught.value.brief


def test_one_table_makes_an_attempt_of_each_value() -> None:
    text = "[a]\nclaim = 'C.'\nguest = '.'\nattack = 'say(value)'\nvalues = {one = '1', two = '2'}"
    assert [(case.label, case.value) for case in read_group("g", text)] == [("g: a (one)", "1"), ("g: a (two)", "2")]


def test_the_order_is_whole_and_answers_are_read() -> None:
    order = json.loads(make_order([ONE], {"gateway": {}}))
    assert [name.rpartition(".")[2] for name, _ in order["sources"]] == [
        "talk",
        "packets",
        "fuse",
        "containers",
        "runner",
    ]
    assert order["cases"] == [{"label": "http: one", "attack": "say(1)", "value": ""}]
    assert read_answers('{"label": "a", "said": "b"}\n') == {"a": "b"}
    for broken in ("no JSON", "[]", '{"label": "a"}'):
        with pytest.raises(EngineError):
            read_answers(broken)
