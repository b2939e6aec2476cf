"""The commands that only look, on state that the tests wrote."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest
from cli_world import DEADLINE_S, CommandLine, write_instance

from engine.build.accelerator import Attempt, Verdict
from engine.build.foundation import tool_nodes
from engine.state.evidence import keep_evidence
from engine.state.instances import forget_instance
from engine.state.layout import Layout

HEAD = 'version: "1"\n'


@pytest.fixture
def instance(sandbox: CommandLine, layout: Layout) -> Path:
    """The directory of a sandbox that has ended."""
    write_instance(layout, "shop", project=str(sandbox.project), state="failed")
    return layout.instance("shop").directory


def journal_line(**changes: object) -> str:
    entry = {
        "time": "2026-01-01T00:00:00.000Z",
        "sandbox": "shop",
        "verdict": "allowed",
        "protocol": "tls",
        "host": "api.example.com",
        "port": 443,
        "rule": "api.example.com",
        "reason": "",
        "bytes_in": 20,
        "bytes_out": 10,
        "duration_ms": 5,
    }
    return json.dumps({**entry, **changes}) + "\n"


def test_journal(sandbox: CommandLine, instance: Path) -> None:
    refused = journal_line(
        verdict="refused", protocol="http", method="GET", path="/x", host="evil\x1b[2J.example.com", reason="no rule"
    )
    (instance / "journal.jsonl.2").write_text(journal_line(host="oldest.example.com"))
    (instance / "journal.jsonl.1").write_text(journal_line(host="older.example.com"))
    (instance / "journal.jsonl").write_text(journal_line() + refused + journal_line(protocol=None, host=None) + '{"cut')
    lines = sandbox("journal").out.splitlines()
    assert [line.split()[2] for line in lines[:3]] == [
        "tls://oldest.example.com:443",
        "tls://older.example.com:443",
        "tls://api.example.com:443",
    ]
    assert lines[2].endswith("20 bytes in, 10 out")
    assert lines[3] == "2026-01-01T00:00:00.000Z  refused   GET  http://evil.example.com:443/x  no rule"
    assert "unknown://?:443" in lines[4] and lines[5] == '{"cut'
    assert sandbox("journal", "--refused", "shop").out.splitlines()[0] == lines[3]
    raw = sandbox("journal", "--json", "--refused").out.splitlines()
    assert json.loads(raw[0]) == json.loads(refused)


def test_journal_of_nothing(sandbox: CommandLine, instance: Path) -> None:
    ran = sandbox("journal")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_following_ends_with_the_sandbox_and_waits_for_whole_lines(sandbox: CommandLine, instance: Path) -> None:
    path = instance / "console.log"
    path.write_text("first\nsec")
    argv = sandbox.argv("console", "-f")
    with subprocess.Popen(
        argv, cwd=sandbox.project, env=sandbox.environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        with path.open("a") as file:
            file.write("ond\n")
        assert process.stdout.readline() == "second\n"
        path.write_text("")  # not read twice, whatever happens to it
        path.with_name("other").write_text("new\n")
        path.with_name("other").replace(path)
        assert process.stdout.readline() == "new\n"
        path.unlink()
        assert process.communicate(timeout=DEADLINE_S)[0] == ""
        assert process.returncode == 0


def test_console(sandbox: CommandLine, instance: Path) -> None:
    (instance / "console.log").write_bytes(b"[\x1b[0;32m  OK  \x1b[0m] Started \xff docker\r\nlogin: \x1b]0;title\x07")
    ran = sandbox("console")
    assert (ran.code, ran.out) == (0, "[  OK  ] Started \N{REPLACEMENT CHARACTER} docker\nlogin: \n")


def test_plan(sandbox: CommandLine, layout: Layout) -> None:
    sandbox.file(HEAD + "setup: ['echo one', 'echo two']\n")
    ran = sandbox("plan")
    assert ran.code == 0 and ran.err == ""
    *lines, total, _, running = ran.out.splitlines()
    assert "not built yet" in lines[0] and total.startswith("0 cached, ")
    assert running == "project does not run: `up` starts it"
    steps = json.loads(sandbox("plan", "--json").out)["steps"]
    assert len(steps) == len(lines)
    assert {step["action"] for step in steps} == {"build"}
    # asking the host's package managers what they are configured with is all that it does
    assert not [effect for effect in sandbox.effects() if effect.startswith("socket")]
    assert not layout.instances.exists() and not layout.kind("toolchain").exists()


def test_validate(sandbox: CommandLine) -> None:
    path = sandbox.file(HEAD + "mounts: [./not-there:/workspace]\n")  # the host's business, not the file's
    ran = sandbox("validate")
    assert (ran.code, ran.out, ran.err) == (0, f"{path}: valid\n", "")
    assert json.loads(sandbox("validate", "--json").out) == {"file": str(path), "valid": True, "diagnostics": []}
    sandbox.file(HEAD + "mount: []\nmachine: {cpus: many}\n")
    ran = sandbox("validate", "--json")
    answer = json.loads(ran.out)
    assert (ran.code, ran.err, answer["valid"]) == (2, "", False)
    unknown, wrong = answer["diagnostics"]
    assert (unknown["line"], unknown["column"], unknown["hint"]) == (2, 1, "did you mean 'mounts'?")
    assert (wrong["line"], wrong["path"]) == (3, ["machine", "cpus"])
    sandbox.file("")
    assert json.loads(sandbox("validate", "--json").out)["diagnostics"][0]["message"]


def write_entry(layout: Layout, kind: str, key: str, files: dict[str, str]) -> None:
    """A cache entry as the store leaves it."""
    entry = layout.entry(kind, key)
    entry.mkdir(parents=True)
    for name, text in files.items():
        (entry / name).write_text(text)
    record = {
        "version": 1,
        "kind": kind,
        "key": key,
        "inputs": {},
        "parents": {},
        "build": "b",
        "created": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "size": 1,
    }
    layout.entry_record(entry).write_text(json.dumps(record))
    layout.entry_marker(entry).touch()


def test_doctor_before_anything_is_there(sandbox: CommandLine, layout: Layout) -> None:
    ran = sandbox("doctor", "--no-build")
    assert (
        ran.code == 0 and "not fetched yet" in ran.out and "not probed yet" in ran.out and str(layout.cache) in ran.out
    )
    assert "note: `sandbox doctor` without --no-build" in ran.err
    assert "network of guests\n  not tried yet" in ran.out
    report = json.loads(sandbox("doctor", "--no-build", "--json").out)
    assert report["tools"] == [] and report["accelerator"] is None
    assert report["directories"]["state"]["path"] == str(layout.state)
    assert report["host"]["memory"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert sandbox.effects() == []


def test_doctor_shows_the_verdict_with_its_evidence(sandbox: CommandLine, layout: Layout) -> None:
    node = tool_nodes()[1]
    verdict = Verdict(
        "tcg",
        (
            Attempt("kvm", "qemu 10, -accel kvm", False, "no guest was running after 15 s", 15.0, "Probing EDD"),
            Attempt("tcg", "qemu 10, -accel tcg", True, "booted", 1.9, ""),
        ),
    )
    write_entry(layout, node.kind, node.key, {"verdict.json": json.dumps(verdict.to_json())})
    ran = sandbox("doctor", "--no-build")
    for words in ("kvm: no guest was running after 15 s, after 15.0 s", "console: Probing EDD", "tcg: booted"):
        assert words in ran.out
    assert "under emulation" in ran.err
    report = json.loads(sandbox("doctor", "--no-build", "--json").out)
    assert report["accelerator"] == json.loads(json.dumps(dataclasses.asdict(verdict)))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(sandbox: CommandLine, shell: str) -> None:
    ran = sandbox("completion", shell)
    assert ran.code == 0 and "_SANDBOX_COMPLETE" in ran.out


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sandbox jo", {"journal"}),
        ("sandbox exec --work", {"--workdir"}),
        ("sandbox down s", {"shop"}),
        ("sandbox logs -n s", {"shop"}),
        ("sandbox logs w", {"web"}),
    ],
)
def test_what_is_completed(sandbox: CommandLine, layout: Layout, line: str, offered: set[str]) -> None:
    write_instance(layout, "shop", project=str(sandbox.project), services={"web": {}, "db": {}})
    words = line.split()
    ran = sandbox(_SANDBOX_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert {row.partition(",")[2] for row in ran.out.split()} == offered
    assert (ran.code, ran.err) == (0, "")


# -- what a failed start left


def left_by_a_failed_start(sandbox: CommandLine, layout: Layout, name: str) -> None:
    write_instance(layout, name, project=str(sandbox.project), state="failed")
    paths = layout.instance(name)
    paths.console_log.write_text("Linux version 6\x1b[2J\nKernel panic\n")
    line = {"time": "t", "verdict": "refused", "protocol": "tls", "host": "example.com", "port": 443, "reason": "no"}
    paths.journal.write_text(json.dumps(line) + "\n")
    assert keep_evidence(layout, name) is not None
    forget_instance(layout, name)


@pytest.mark.parametrize("named", [True, False])
def test_the_last_words_of_a_failed_start(sandbox: CommandLine, layout: Layout, named: bool) -> None:
    sandbox.file('version: "1"\nname: shop\n')
    left_by_a_failed_start(sandbox, layout, "shop")
    name = ("shop",) if named else ()
    ran = sandbox("console", *name)
    assert ran.code == 0 and "Kernel panic\n" in ran.out and "\x1b" not in ran.out
    assert ran.err == "shop does not run: this is what its last start left, which failed\n"
    assert "example.com" in sandbox("journal", *name).out
    for argv in (("logs", *(("-n", "shop") if named else ())), ("exec", *name, "--", "true")):
        ran = sandbox(*argv)
        assert ran.code == 1 and f"console, journal and log are in {layout.failed('shop').directory}" in ran.err
    assert json.loads(sandbox("ls", "--json").out) == []


def test_of_another_project_it_is_not_shown(sandbox: CommandLine, layout: Layout, tmp_path: Path) -> None:
    left_by_a_failed_start(sandbox, layout, "shop")
    (tmp_path / "other").mkdir()
    ran = sandbox("console", cwd=tmp_path / "other")
    assert ran.code == 1 and ran.out == "" and "failed" not in ran.err
