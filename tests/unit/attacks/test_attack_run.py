"""A run of the attempts, by fakes: what is tried in which state, and that each group's checks see what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attack_room import Answer, ran, room

from engine.attacks import run, transitions
from engine.attacks.case import Case, load_cases
from engine.attacks.host import channel, ends, growth, liar, surroundings, tools, values
from engine.attacks.host.check import Check, NotTried
from engine.attacks.judgement import HELD, NOT_TRIED, OUT, Outcome, judge
from engine.attacks.page import merged, read_report, render_page, summary_line, to_json
from engine.attacks.project import NAMES, REAL, ROTATED
from engine.attacks.room import Ran
from engine.attacks.run import CHECKS, Result, Wanted, all_cases, cases_for, checks_for, groups, look
from engine.attacks.states import FRESH, STATES, left_out, why_left_out
from engine.attacks.trial import Trial
from engine.errors import EngineError
from engine.lifecycle import attacking
from engine.lifecycle.attacking import commit_of


def test_there_are_enough_attempts_each_under_a_name_of_its_own() -> None:
    labels = [case.label for case in load_cases()] + [check.case.label for check in CHECKS]
    assert len(labels) == len(set(labels)) >= 450
    assert len(groups()) >= 14 and all(check.claim.endswith(".") for check in CHECKS)


def tried(state: str) -> list[Case]:
    return [*cases_for(state, Wanted()), *(check.case for check in checks_for(state, Wanted()))]


def kinds(cases: Iterable[Case]) -> set[tuple[str, str]]:
    return {(case.group, case.kind) for case in cases}


@pytest.mark.parametrize("state", STATES)
def test_each_control_is_tried_in_each_state_but_where_a_reason_is_written(state: str) -> None:
    made, everything = tried(state), all_cases()
    known = kinds(made)
    untried = [case for case in everything if (case.group, case.kind) not in known]
    assert [case.label for case in untried if case.is_for(state) and not why_left_out(state, case)] == []
    assert not [case.label for case in made if why_left_out(state, case)]
    assert len(everything) > 2 * len(made) > 200 or state == FRESH


def test_what_is_left_out_somewhere_is_on_the_page_and_tried_elsewhere() -> None:
    page, everything = render_page([to_json(result())]), all_cases()
    for states, names, why in left_out():
        assert f"| {states} | {names} | {why} |" in page
        for name in names.split(", "):
            assert [case for case in everything if name in (case.group, f"{case.group}: {case.kind}")], name
    assert not [case.label for case in everything if why_left_out(FRESH, case)]


def test_what_was_asked_for_is_tried_and_nothing_else() -> None:
    wanted = Wanted(frozenset({"hidden"}))
    assert {case.group for case in cases_for("restored", wanted)} == {"hidden"}
    assert checks_for("fresh", wanted) == []
    one = load_cases()[0].label
    assert [case.label for case in cases_for("fresh", Wanted(labels=frozenset({one})))] == [one]


def test_a_check_that_breaks_off_did_not_hold() -> None:
    def broken(trial: Trial) -> Iterator[str]:
        yield from ()
        raise EngineError("the sandbox is gone")

    def impossible(trial: Trial) -> Iterator[str]:
        yield from ()
        raise NotTried("no such device here")

    verdicts = [look(Check("g", "k", "C.", what), None).verdict for what in (broken, impossible)]  # type: ignore[arg-type]
    assert verdicts == [OUT, NOT_TRIED]


def test_an_attempt_may_say_that_it_cannot_be_tried() -> None:
    case = Case("kernel", "k", "C.", "", "^end$")
    (outcome,) = judge([case], {case.label: "not tried: no /dev/mem\n[ran]"}, [], {})
    assert outcome.verdict == NOT_TRIED


# Each group's checks, with what they must see.


def test_the_surroundings_are_as_they_were(trial: Trial) -> None:
    assert [text for check in surroundings.CHECKS for text in check.look(trial)] == []


@pytest.mark.parametrize(
    ("number", "spoil"),
    [
        (0, lambda t: (t.stage.directory / "heard").write_text("frame\n")),
        (1, lambda t: (t.outside / "new").write_text("x")),
        (1, lambda t: (t.outside / "victim").write_text("x")),
        (1, lambda t: (t.beside / "moved").mkdir()),
        (2, lambda t: (t.project / "kept/new").write_text("x")),
        (3, lambda t: (t.project / "Sandboxfile.local.yaml").write_text("x")),
        (3, lambda t: (t.project / "Sandboxfile.yaml").write_text("evil")),
        (4, lambda t: (t.beside / "raw/.git/hooks/pre-commit").write_text("x")),
        (4, lambda t: (t.beside / "raw/.claude").mkdir() or (t.beside / "raw/.claude/settings.json").write_text("x")),
        (5, lambda t: (t.beside / "raw/key.pem").write_text("x")),
        (6, lambda t: (t.beside / "raw/file").chmod(0o4755)),
    ],
)
def test_what_changed_around_is_seen(trial: Trial, number: int, spoil: Callable[[Trial], Any]) -> None:
    spoil(trial)
    assert list(surroundings.CHECKS[number].look(trial)), surroundings.CHECKS[number].kind


def test_a_program_that_ran_on_the_host_is_seen(trial: Trial) -> None:
    trial.notes["tools"] = "esc"
    assert list(tools.trapped(3, trial)) == []
    trial.notes["not set"] = "not set: a program for differences.\n"
    assert ["a program for differences" in text for text in tools.trapped(3, trial)] == [True]
    trial.notes["not set"] = ""
    (trial.outside / "ran-3").touch()
    assert list(tools.trapped(3, trial)) and not (trial.outside / "ran-3").exists()


def test_what_the_tools_must_not_write_or_print_is_seen(trial: Trial) -> None:
    trial.notes["tools"] = "esc"
    copied = trial.beside / "copied"
    (copied / "proper.txt").write_text("proper 1\n")
    looks = (tools.written, tools.repository, tools.special, tools.terminal, tools.still_works)
    assert [text for one in looks for text in one(trial)] == []
    (copied / "out").symlink_to(trial.outside)
    os.mkfifo(copied / "fifo")
    (copied / ".git/hooks/post-merge").touch()
    (copied / "proper.txt").unlink()
    trial.notes["tools"] = "esc\x1b]52;c;x"
    assert [bool(list(one(trial))) for one in looks] == [True] * 5


def test_a_lying_archive_that_got_out_is_seen(trial: Trial) -> None:
    (complaint,) = tools.lying_archive("noise", trial)
    assert "did not ask the program that lies" in complaint
    room(trial).answer = lambda *argv, **options: ran(0, f"{tools.USED}\n")
    assert list(tools.lying_archive("dots", trial)) == []
    room(trial).answer = lambda *argv, **options: (trial.outside / "evil").touch() or ran(0, tools.USED)  # type: ignore[func-returns-value]
    assert len(list(tools.lying_archive("link", trial))) == 1
    room(trial).answer = lambda *argv, **options: ran(3 if argv[0] == "cp" else 0, tools.USED, err="Traceback")
    (trial.outside / "evil").unlink()
    assert len(list(tools.lying_archive("hard", trial))) == 1


def test_a_trap_that_could_not_be_set_is_told() -> None:
    for trap, said in (("true\ntrue", ""), ("false\ntrue", "not set: a.\n"), ("nonexistent-program", "not set: a.\n")):
        script = f"{tools._setting('a', trap)}\necho on\n"
        shell = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True)
        assert shell.stdout == f"{said}on\n"


def test_a_word_that_controls_the_terminal_is_seen(trial: Trial) -> None:
    assert list(tools.shown(trial)) == []
    room(trial).answer = lambda *argv, **options: ran(0, "\x1b]52;c;x" if argv[0] == "ls" else "")
    assert len(list(tools.shown(trial))) == 1


def test_a_supervisor_that_grew_and_a_silent_host_are_seen(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.names |= {"held": "x", "held_second": "y"}
    trial.instance.mkdir(parents=True)
    (trial.instance / "instance.json").write_text(json.dumps({"pid": os.getpid()}))

    heard = [True]
    monkeypatch.setattr(Trial, "await_word", lambda trial, word, longest_s: heard[0])

    def try_it(**codes: int | None) -> list[str]:
        room(trial).answer = lambda *argv, **options: ran(codes.get(argv[0], 0) if "sh" not in argv else 0, "attacked")
        return list(channel.frames("noise", trial))

    monkeypatch.setattr(channel, "_MOST", 1 << 60)
    assert try_it() == []
    for name, code, said in (("ls", 1, "`ls` says 1"), ("exec", None, "does not end"), ("exec", 3, "by a bug")):
        assert [text for text in try_it(**{name: code}) if said in text], name
    assert try_it(down=1) == [] and [text for text in try_it(exec=1, down=1) if "`down` fails" in text]
    room(trial).alive = {1: "qemu-system"}
    assert [text for text in try_it(exec=1) if "left" in text]
    assert [text for text in channel.anew(trial) if "left" in text]
    monkeypatch.setattr(channel, "_MOST", 1)
    assert [text for text in try_it() if "MiB of memory" in text]
    heard[0] = False
    room(trial).answer = lambda *argv, **options: ran()
    assert [text for text in channel.frames("noise", trial) if "had not written" in text]


def test_a_liar_that_nobody_asked_and_a_host_that_believes_are_seen(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.instance.mkdir(parents=True)
    (trial.instance / "instance.json").write_text(json.dumps({"pid": os.getpid()}))
    heard = {"lies-", "told-lies-", "over-lies-"}
    monkeypatch.setattr(Trial, "await_word", lambda trial, word, longest_s: word.rstrip("0123456789abcdef") in heard)
    monkeypatch.setattr(Trial, "wait_for", lambda trial, seen, longest_s: True)
    monkeypatch.setattr(channel, "_MOST", 1 << 60)

    def try_it(out: str = "", **codes: int | None) -> list[str]:
        room(trial).answer = lambda *argv, **options: ran(0 if "sh" in argv else codes.get(argv[0], 0), out)
        return list(liar.lies("deep", trial))

    assert try_it() == [] and try_it(exec=1) == []
    asked = [argv[0] for argv in room(trial).calls if "sh" not in argv]
    assert asked[0] == "exec", "the first asks the guest"
    for codes, said in (
        ({"ls": 1}, "`ls` says 1"), ({"exec": None}, "`exec` does not end"), ({"stats": 3}, "`stats` ended as by a b"),
    ):  # fmt: skip
        assert [text for text in try_it(**codes) if said in text], said
    assert [text for text in try_it(out="\x1b]52;c;x") if "control characters" in text]
    heard.discard("told-lies-")
    assert try_it() == ["the control: no command of the host's was lied to"]
    heard.discard("over-lies-")
    assert "the lies did not end in 90 s" in try_it()
    heard.discard("lies-")
    assert "did not run" in try_it()[0]


def test_what_grew_is_seen(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial.instance.mkdir(parents=True)
    room(trial).alive = {os.getpid(): "python test"}
    monkeypatch.setattr(growth, "MB", 1 << 40)
    assert [text for text in growth.grows("processes", trial) if "did not do its work" in text]
    room(trial).answer = lambda *argv, **options: ran(0, "worked\n")
    assert list(growth.grows("processes", trial)) == []
    (trial.instance / "journal.jsonl").write_bytes(b"x" * 10000)
    monkeypatch.setattr(growth, "_JOURNAL", 1)
    assert list(growth.grows("requests", trial))
    monkeypatch.setattr(growth, "_JOURNAL", 1 << 40)
    room(trial).answer = lambda *argv, **options: ran(None if argv[-1] == "true" else 0, "worked\nmade")
    assert len(list(growth.grows("a file beyond the disk", trial))) == 2


def test_an_end_without_a_word_is_seen(trial: Trial) -> None:
    assert list(ends.alive(trial)) != []
    trial.names["held"] = "x"
    room(trial).answer = lambda *argv, **options: ran(1 if argv[0] == "exec" and argv[-1] == "true" else 0, "b")
    assert [text for text in ends.ended("panic", trial) if "is told ''" in text]
    room(trial).alive = {1: "qemu-system"}
    assert [text for text in ends.ended("panic", trial) if "left" in text]


def test_a_value_that_is_somewhere_is_seen(trial: Trial) -> None:
    trial.planted = "built-word"
    trial.room.state.mkdir()
    store = trial.room.state / "secrets.json"
    store.write_text(REAL["github"])
    assert list(values.in_our_files(trial)) == []
    (trial.room.state / "log").write_text(f"a {REAL['anthropic']} b")
    assert list(values.in_our_files(trial))
    trial.paused = {"planted"}
    assert list(values.in_paused(trial)) == []
    trial.paused = {"planted", "github plain"}
    assert list(values.in_paused(trial))
    trial.paused = set()
    assert list(values.in_paused(trial)), "a search that finds nothing is no proof"


@pytest.mark.parametrize(
    ("name", "head"),
    [
        (NAMES["managed"], "POST /v1/files HTTP/1.1\r\nx-api-key: " + REAL["anthropic"]),
        (NAMES["managed"], "POST /v1/messages HTTP/1.1\r\nx-api-key: other"),
        (NAMES["spliced"], "GET / HTTP/1.1\r\nx-api-key: " + REAL["anthropic"]),
        ("evil.example.net", "GET / HTTP/1.1\r\n"),
        (NAMES["second"], "GET /repos/acme/a HTTP/1.1\r\nauthorization: Bearer attacker"),
    ],
)
def test_a_request_that_should_not_have_come_is_seen(trial: Trial, name: str, head: str) -> None:
    good = [
        (NAMES["managed"], f"POST /v1/messages HTTP/1.1\r\nx-api-key: {REAL['anthropic']}\r\n\r\n", ""),
        (NAMES["second"], f"GET /repos/acme/a HTTP/1.1\r\nauthorization: Bearer {REAL['github']}\r\n\r\n", ""),
        (NAMES["spliced"], "GET / HTTP/1.1\r\n\r\n", ""),
    ]
    log = trial.stage.directory / "requests"
    log.write_text("".join(json.dumps(one) + "\n" for one in good))
    assert list(values.at_servers(trial)) == []
    log.write_text("".join(json.dumps(one) + "\n" for one in [*good, (name, f"{head}\r\n\r\n", "")]))
    assert len(list(values.at_servers(trial))) == 1


def test_a_replaced_value_that_is_not_used_is_seen(trial: Trial) -> None:
    log = trial.stage.directory / "requests"
    old = f"GET /repos/acme/rotated HTTP/1.1\r\nauthorization: Bearer {REAL['github']}\r\n\r\n"
    new = old.replace(REAL["github"], ROTATED)

    def asked(*heads: str) -> Answer:
        def answer(*argv: str, stdin: str | None = None) -> Ran:
            log.write_text("".join(json.dumps([NAMES["second"], head, ""]) + "\n" for head in heads))
            return ran()

        return answer

    for heads, good in (((new,), True), ((old,), False), ((), False)):
        log.unlink(missing_ok=True)
        room(trial).answer = asked(*heads)
        assert (list(values.rotated(trial)) == []) is good


def test_a_run_that_is_ended_tells_of_the_states_that_are_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def visit(state: str, trial: Trial, wanted: Wanted, result: Result, tell: Callable[[str], None]) -> None:
        if state == ends_at:
            raise KeyboardInterrupt
        result.outcomes[state] = []

    for name, fake in (("why_not", lambda: ""), ("prepare", lambda room, loose: None), ("build", lambda trial: None)):
        monkeypatch.setattr(run, name, fake)
    monkeypatch.setattr(run, "open_room", lambda environment, cache: nullcontext())
    monkeypatch.setattr(run, "enter_stage", lambda room, inward: nullcontext())
    monkeypatch.setattr(run, "_visit", visit)
    ends_at = "started"
    ended = run.run_attacks(Wanted(), {}, tmp_path, print)
    assert list(ended.outcomes) == ["fresh", "resumed"] and set(ended.skipped) == set(STATES) - {"fresh", "resumed"}
    assert "- the state *started* was not run: the run was ended before" in render_page([to_json(ended)])
    ends_at = "fresh"
    with pytest.raises(KeyboardInterrupt):
        run.run_attacks(Wanted(), {}, tmp_path, print)


def test_a_state_that_could_not_be_entered_is_told_and_did_not_hold(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(trial: Trial, state: str) -> None:
        trial.problems.append("a word of the way")
        raise EngineError("no memory", hint="a hint")

    monkeypatch.setattr(run, "enter_state", enter)
    for renew in (lambda trial: None, enter_again):
        monkeypatch.setattr(Trial, "renew", renew)
        told: list[str] = []
        seen = Result({})
        run._visit("forked", trial, Wanted(frozenset({"docker"})), seen, told.append)
        (outcome,) = seen.outcomes["forked"]
        assert outcome.verdict == OUT and outcome.case.label == "states: forked"
        assert [words in "; ".join(outcome.complaints) for words in ("a word of the way", "no memory")] == [True] * 2
        assert ("nor made anew" in "; ".join(outcome.complaints)) is (renew is enter_again)
        assert [text for text in told if "out: states: forked" in text] and to_json(seen)["counts"][OUT] == 1
        assert "in 0 states" in summary_line(to_json(seen)), "it was not run"
        assert "no memory" in seen.skipped["forked"]


def enter_again(trial: Trial) -> None:
    raise EngineError("no memory still")


def test_a_check_with_a_bug_does_not_end_the_run() -> None:
    def broken(trial: Trial) -> Iterator[str]:
        yield from ()
        raise TypeError("argument of type 'NoneType' is not iterable")

    outcome = look(Check("g", "k", "C.", broken), None)  # type: ignore[arg-type]
    assert outcome.verdict == OUT and "TypeError" in outcome.complaints[0]


@pytest.mark.parametrize(
    "program", [channel._SPEAK, liar._LIE, values._ASK, transitions._DRAW, transitions._HOLD, transitions._SESSION]
)
def test_what_the_guest_is_given_to_run_is_a_program(program: str) -> None:
    compile(program, "program", "exec")


# What is told of it.


def result() -> Result:
    held, out = Case("g", "k", "It | holds.", "", "", variant="a"), Case("g", "k", "It | holds.", "", "", variant="b")
    skipped = Case("g", "other", "It too.", "", "")
    outcomes = [
        Outcome(held, ""),
        Outcome(out, "", complaints=["x\x1by"]),
        Outcome(skipped, "not tried: no \x1bdevice"),
    ]
    return Result({"user": "root"}, {"fresh": outcomes, "restored": [Outcome(held, "")]}, {"forked": "why"}, 61.0)


def test_the_report_has_each_attempt_and_no_word_of_the_guest_controls_a_terminal() -> None:
    report = read_report(json.dumps(to_json(result())))
    assert report["counts"] == {HELD: 2, OUT: 1, NOT_TRIED: 1}
    assert summary_line(report) == "3 attempts in 2 states, 3 times tried: 2 held, 1 out, 1 not tried; 1 min 1 s"
    page = render_page([report, report])
    assert "| k | 2 | It \\| holds. | out | fresh, restored |" in page
    assert "- the state *forked* was not run: why" in page and "not tried: g: other: no ?device" in page
    assert "In none of these runs were tried: " in page and " of network" in page
    assert "\x1b" not in page and "\x1b" not in json.dumps(report)


def test_runs_of_one_user_are_one_and_another_users_is_another() -> None:
    one, later = to_json(result()), to_json(result())
    other = {**one, "host": {"user": "an ordinary user"}}
    later["attempts"][0]["states"] = {"resumed": {"verdict": HELD, "why": ""}}
    later["attempts"] = later["attempts"][:1]
    later["skipped"] = {}
    first, second = merged([one, later, other])
    assert first["counts"] == {HELD: 3, OUT: 1, NOT_TRIED: 1} and second["counts"] == one["counts"]
    assert set(first["attempts"][0]["states"]) == {"fresh", "restored", "resumed"} and first["skipped"] == {}
    assert first["seconds"] == 122


def test_runs_of_different_code_are_not_one(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == {}

    def git(*words: str) -> str:
        argv = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost", *words]
        return subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    assert commit_of(tmp_path) == {"commit": "unknown"}
    git("commit", "-q", "--allow-empty", "-m", "first")
    first = commit_of(tmp_path)
    assert first == {"commit": git("rev-parse", "HEAD")[:12]}
    (tmp_path / "new").touch()
    changed = commit_of(tmp_path)
    assert changed == {"commit": f"{first['commit']}, with changes that are not committed"}
    reports = [{**to_json(result()), "host": {"user": "root", **code}} for code in (first, changed, first)]
    assert len(merged(reports)) == 2 and f"- commit: {first['commit']}\n" in render_page(reports)


def test_a_report_has_the_commit_of_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = SimpleNamespace(cache=Path("/nonexistent"))
    monkeypatch.setattr(run, "run_attacks", lambda *given: result())
    monkeypatch.setattr(attacking, "commit_of", lambda root: {"commit": str((root / "engine").is_dir())})
    report = attacking.attack(layout, Wanted(), {}, print)  # type: ignore[arg-type]
    assert report["host"] == {"user": "root", "commit": "True"}


@pytest.mark.parametrize("text", ["[]", "{}", "nothing", '{"version": 2, "attempts": []}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_report(text)
