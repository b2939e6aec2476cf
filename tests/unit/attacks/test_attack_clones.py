"""What the host sees of a clone and its source, by fakes: each check sees what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attack_room import Answer, ran, room

from engine.attacks.host import clones
from engine.attacks.room import Ran, Room
from engine.attacks.trial import Trial


@pytest.fixture
def clone(trial: Trial) -> Trial:
    """A clone beside its source, each as it should be."""
    trial.name = "attacked-2"
    for name, word in (("attacked", "of-the-source.example"), ("attacked-2", "of-the-clone.example")):
        directory = trial.room.state / "instances" / name
        directory.mkdir(parents=True)
        (directory / "journal.jsonl").write_text(json.dumps({"host": word}) + "\n")
    (trial.instance / "disk.qcow2").write_text(trial.word)
    disk = trial.room.state / "forks/one/disk.qcow2"
    disk.parent.mkdir(parents=True)
    disk.write_text("the source's\n")
    room(trial).answer = answers_of_clones({})
    return trial


def answers_of_clones(instead: dict[tuple[str, str], str]) -> Answer:
    """What both say to each script, the source first; `instead` says what one of them says by (name, a word)."""
    says = {
        "machine-id": ("a\nattacked\nr1\nu1\n", "b\nattacked-2\nr2\nu2\n"),
        "drawn": ("1 x\n2 y\n", "1 x\n3 z\n"),
        "whose": ("the source\nattacked\n", "the clone\nattacked-2\n"),
        "curl": ("200", "403"),
        "--json": ("", '{"host": null}\n{"host": "of-the-clone.example"}\n'),
    }  # fmt: skip

    def answer(*argv: str, stdin: str | None = None) -> Ran:
        name = next((word for word in argv if word.startswith("attacked")), "")
        for word, (source, of_clone) in says.items():
            if word in argv[-1]:
                return ran(0, instead.get((name, word), source if name == "attacked" else of_clone))
        return ran()

    return answer


def test_a_clone_is_as_it_should_be(clone: Trial) -> None:
    with (clone.room.state / "forks/one/disk.qcow2").open():
        room(clone).alive = {os.getpid(): "/usr/bin/qemu-system-x86_64 -name"}
        assert [text for check in clones.CHECKS for text in check.look(clone)] == []
    assert all(check.states == ("forked",) for check in clones.CHECKS)


@pytest.mark.parametrize(
    ("kind", "instead", "said"),
    [
        ("identity", {("attacked-2", "machine-id"): "a\nattacked-2\nr2\nu2\n"}, "machine-id of both"),
        ("identity", {("attacked-2", "machine-id"): "b\nattacked-2\nr1\nu2\n"}, "random bytes of both"),
        ("a program that draws", {("attacked-2", "drawn"): "1 x\n7000002 y\n"}, "the same number 1 times, 7 to 7 ms"),
        ("a program that draws", {("attacked-2", "drawn"): "1 x\n"}, "the control"),
        ("a gateway", {("attacked-2", "--json"): '{"host": "of-the-source.example"}\n'}, "in the journal of the clone"),
        ("a gateway", {("attacked-2", "--json"): '{"host": null}\n'}, "the control"),
        ("a denial", {("attacked-2", "curl"): "200"}, "the clone was answered 200"),
        ("a denial", {("attacked", "curl"): "403"}, "its source 403"),
        ("files", {("attacked", "whose"): "the clone\nattacked\n"}, "the source says"),
    ],
)  # fmt: skip
def test_what_a_clone_has_of_its_source_is_seen(
    clone: Trial, kind: str, instead: dict[tuple[str, str], str], said: str
) -> None:
    room(clone).answer = answers_of_clones(instead)
    (check,) = (check for check in clones.CHECKS if check.kind == kind)
    assert [text for text in check.look(clone) if said in text]


def test_what_a_clone_does_to_its_source_is_seen(clone: Trial) -> None:
    of_source = clone.room.state / "instances/attacked"
    (of_source / "layer-1.qcow2").write_text(clone.word)
    (complaint,) = clones.files(clone)
    assert "layer-1.qcow2" in complaint
    for name in ("evil.example.net", "of-the-clone.example"):
        (of_source / "journal.jsonl").write_text(json.dumps({"host": name}) + "\n")
        assert [text for text in clones.gateway(clone) if "the journal of the source has" in text]
    room(clone).alive = {os.getpid(): "/usr/bin/qemu-system-x86_64 -name"}
    (complaint,) = clones.held(clone)
    assert "the control" in complaint
    with (clone.room.state / "forks/one/disk.qcow2").open("r+"), (of_source / "journal.jsonl").open():
        said = sorted(clones.held(clone))
    assert len(said) == 2 and "journal.jsonl open" in said[0] and "may write into" in said[1]


def test_the_clone_is_asked_for_a_name_of_its_own(clone: Trial) -> None:
    list(clones.gateway(clone))
    asked = [argv for argv in room(clone).calls if "of-the-clone.example" in argv[-1]]
    assert len(asked) == 1 and "attacked-2" in asked[0]


def test_commands_name_the_sandbox_that_is_attacked(trial: Trial) -> None:
    trial.name = "attacked-2"
    assert trial.words(("exec", "--", "true")) == ("exec", "-n", "attacked-2", "--", "true")
    assert trial.words(("down", "--yes")) == ("down", "attacked-2", "--yes") and trial.words(("ls",)) == ("ls",)


def test_what_is_set_aside_is_not_counted(tmp_path: Path) -> None:
    variables = {f"SANDBOX_{name}_DIR": str(tmp_path / name) for name in ("STATE", "RUNTIME")}
    one = Room(tmp_path, variables)
    (tmp_path / "RUNTIME/source").mkdir(parents=True)
    with running(f"{tmp_path}/STATE") as source:
        assert source in one.processes()
        one.set_aside()
        assert one.processes() == {} and one.left() == []
        (tmp_path / "RUNTIME/clone").mkdir()
        with running(f"{tmp_path}/STATE") as clone:
            assert list(one.processes()) == [clone]


@contextmanager
def running(word: str) -> Iterator[int]:
    """A process whose command line has this word."""
    program = "import sys; print(); sys.stdin.read()"
    argv = [sys.executable, "-S", "-c", program, word]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.stdin.close()
