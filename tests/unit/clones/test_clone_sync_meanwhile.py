"""`sync` while somebody changes files, with a guest that lies, and with an end in the middle of it."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cloned import Cloned, run_in_process, same, tree, write
from fake_guest import Answer, Asked

from engine.clones import applying, into_guest
from engine.clones.applying import PREFIX
from engine.clones.base import Base, blob_digest
from engine.clones.interrupted import Record
from engine.errors import EngineError
from engine.lifecycle.clones import Looked, alone_with, apply, plan
from engine.lifecycle.syncing import InConflict
from vmm.channel.errors import GuestError

LINES = "1\n2\n3\n4\n5\n6\n7\n"


@pytest.fixture
def cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloned:
    cloned = Cloned(tmp_path, monkeypatch)
    cloned.git("init", "-q")
    write(cloned.host, {".gitignore": "out/\n*.log\n", "a.py": LINES, "b": "b", "d/only": "o", "run.sh": "x"})
    cloned.commit()
    cloned.clone()
    return cloned


# somebody changes files meanwhile


def during(cloned: Cloned, word: str, act: object) -> None:
    """Before the guest's program begins with `word`, `act` happens."""

    def run(asked: Asked) -> Answer:
        if word in asked.argv:
            act()  # type: ignore[operator]
        return run_in_process(asked)

    cloned.run = run


def test_a_file_of_the_copy_that_is_changed_meanwhile_stays(cloned: Cloned) -> None:
    write(cloned.host, {"b": "of the host", "new": "n"})
    during(cloned, "put", lambda: write(cloned.guest, {"b": "meanwhile"}))
    assert cloned.sync() == {"b": "refused", "new": "to copy"}
    assert (cloned.guest / "b").read_text() == "meanwhile" and (cloned.host / "b").read_text() == "of the host"


def test_a_file_that_was_to_be_merged_and_is_changed_meanwhile_stays_on_both_sides(cloned: Cloned) -> None:
    mine, theirs = LINES.replace("1", "host"), LINES.replace("7", "copy")
    write(cloned.host, {"a.py": mine})
    write(cloned.guest, {"a.py": theirs, "c": "c"})
    during(cloned, "put", lambda: write(cloned.guest, {"a.py": "meanwhile"}))
    assert cloned.sync() == {"a.py": "refused", "c": "to host"}
    assert (cloned.guest / "a.py").read_text() == "meanwhile" and (cloned.host / "a.py").read_text() == mine


def test_a_file_of_the_host_that_is_changed_meanwhile_stays_and_the_copy_is_put_back(cloned: Cloned) -> None:
    write(cloned.host, {"new/one": "n", "run.sh": "changed"})
    (cloned.host / "d/only").unlink()
    write(cloned.guest, {"a.py": "of the copy", "b": "of the copy"})
    before = tree(cloned.guest)
    during(cloned, "put", lambda: write(cloned.host, {"b": "meanwhile"}))
    with pytest.raises(EngineError, match="nothing was synced: b: it was changed meanwhile"):
        cloned.sync()
    assert tree(cloned.guest) == before and not (cloned.guest / "new").exists()
    assert (cloned.host / "a.py").read_text() == LINES and (cloned.host / "b").read_text() == "meanwhile"
    assert Base.load(cloned.directory).entries["a.py"].size == len(LINES)


def put_directly(root: Path, aside: Path, steps: list[list[object]], contents: bytes) -> dict[str, object]:
    """The guest's program, in this process."""
    aside.mkdir()
    given = io.TextIOWrapper(io.BytesIO(json.dumps(steps).encode() + b"\n" + contents))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", given)
        top, kept = (os.open(path, into_guest.DIRECTORY) for path in (root, aside))
        try:
            return into_guest.put(top, kept, os.geteuid())
        finally:
            os.close(top)
            os.close(kept)


def steps_of(*texts: tuple[str, str | None, str | None]) -> tuple[list[list[object]], bytes]:
    def entry(text: str | None) -> object:
        return None if text is None else [False, blob_digest(text.encode()), None]

    steps = [[path, entry(before), entry(after), len(after or "")] for path, before, after in texts]
    return steps, "".join(after or "" for _, _, after in texts).encode()


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize(
    "late",
    [("b", "b!", "B"), ("b", "b!", None), ("n", None, "N")],
    ids=["written over", "removed", "made"],
)
def test_a_file_that_is_changed_in_the_last_moment_undoes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool, late: tuple[str, str | None, str | None]
) -> None:
    """Between the guest's look at the file and the move."""
    root = tmp_path / "root"
    write(root, {"a": "a", "b": "b", "n": "somebody's", "gone": "g"})
    before = tree(root)
    monkeypatch.setattr(into_guest, "in_the_way", lambda *_: None)
    if not can_exchange:
        monkeypatch.setattr(into_guest, "exchange", lambda *_: False)
    steps, contents = steps_of(("a", "a", "A"), ("gone", "g", None), ("new/file", None, "n"), late)
    assert put_directly(root, tmp_path / "aside", steps, contents) == {"changed": late[0]}
    assert tree(root) == before and not (root / "new").exists()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_what_the_agent_writes_after_the_put_is_not_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    """In the moment between the put, and the host's word that all is to be as it was."""
    root = tmp_path / "root"
    write(root, {"a": "a", "b": "b", "removed": "r", "gone": "g", "still": "s"})
    if not can_exchange:
        monkeypatch.setattr(into_guest, "exchange", lambda *_: False)
    before = tree(root)
    steps, contents = steps_of(
        *(("a", "a", "A"), ("b", "b", "B"), ("removed", "r", None), ("gone", "g", "G"), ("new", None, "n")),
        *(("in place", None, "i"), ("other", None, "o"), ("still", "s", "S")),
    )
    assert put_directly(root, tmp_path / "aside", steps, contents) == {"left": {}}
    (root / "a").unlink()
    write(root, {"a": "of the agent", "removed": "of the agent", "in place": "of the agent"})
    (root / "gone").unlink()
    (root / "other").unlink()
    write(root, {"other": "of the agent"})
    top, kept = (os.open(path, into_guest.DIRECTORY) for path in (root, tmp_path / "aside"))
    done = [tuple(step) for step in json.loads((tmp_path / "aside" / into_guest.DONE).read_text())]
    into_guest.undo(top, kept, done)  # type: ignore[arg-type]
    into_guest.clear(kept)
    os.close(top)
    os.close(kept)
    agents = dict.fromkeys(("a", "removed", "in place", "other"), (False, b"of the agent"))
    assert tree(root) == {**agents, "b": before["b"], "still": before["still"]}


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("after", ["B", None])
def test_a_directory_of_the_last_moment_is_put_back_in_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool, after: str | None
) -> None:
    root = tmp_path / "root"
    write(root, {"a": "a", "b/mine": "m"})
    before = tree(root)
    monkeypatch.setattr(into_guest, "in_the_way", lambda *_: None)
    if not can_exchange:
        monkeypatch.setattr(into_guest, "exchange", lambda *_: False)
    steps, contents = steps_of(("a", "a", "A"), ("b", "b", after))
    assert put_directly(root, tmp_path / "aside", steps, contents) == {"changed": "b"}
    assert tree(root) == before


@pytest.mark.parametrize("number", range(4))
def test_a_program_that_is_ended_undoes_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    root = tmp_path / "root"
    write(root, {"a": "a", "gone": "g"})
    before, real, left = tree(root), into_guest.move, [number]

    def move(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit(143)

    monkeypatch.setattr(into_guest, "move", move)
    steps, contents = steps_of(("a", "a", "A"), ("gone", "g", None), ("new/file", None, "n"))
    if number == 3:
        assert put_directly(root, tmp_path / "aside", steps, contents) == {"left": {}}
        assert set(tree(root)) == {"a", "new/file"}
        return
    with pytest.raises(SystemExit):
        put_directly(root, tmp_path / "aside", steps, contents)
    assert tree(root) == before


def test_a_host_that_goes_before_it_has_sent_all(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, {"a": "a"})
    steps, contents = steps_of(("a", "a", "long enough"))
    with pytest.raises(EOFError):
        put_directly(root, tmp_path / "aside", steps, contents[:4])
    assert tree(root) == {"a": (False, b"a")}


def test_what_is_put_aside_is_not_somebody_elses(tmp_path: Path) -> None:
    write(tmp_path, {"root/a": "a", "outside/x": "x"})
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / into_guest.aside_of(str(tmp_path / "root"))).symlink_to(tmp_path / "outside")
    top = os.open(tmp_path / "root", into_guest.DIRECTORY)
    with pytest.raises(NotADirectoryError):
        into_guest.open_aside(top, str(tmp_path / "root"), str(tmp_path / "state"))
    os.close(top)
    assert (tmp_path / "outside/x").exists()


def test_an_apply_whose_plan_is_older_than_a_sync(cloned: Cloned) -> None:
    write(cloned.guest, {"a.py": "A"})
    looked = Looked(cloned.point, cloned.changes())
    planned = plan(looked, looked.changes.found, ())
    cloned.sync()
    write(cloned.host, {"a.py": LINES})
    with pytest.raises(EngineError, match="nothing was applied: another command"):
        apply([(looked, planned)])
    assert (cloned.host / "a.py").read_text() == LINES


def test_two_at_once(cloned: Cloned) -> None:
    with alone_with(cloned.directory), pytest.raises(EngineError, match="another command is just taking over"):
        cloned.sync()


# a guest that lies


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"nonsense",
        b"[" * 100_000,
        b'{"left": []}',
        b'{"left": {"../x": "kind"}}',
        b'{"changed": "x"}',
        b'{"changed": []}',
    ],
)
def test_a_guest_that_says_nothing_sensible(cloned: Cloned, said: bytes) -> None:
    write(cloned.host, {"b": "B"})
    write(cloned.guest, {"a.py": "A"})
    cloned.run = lambda asked: Answer(0, said) if "put" in asked.argv else run_in_process(asked)
    with pytest.raises(GuestError, match="does not say what it has written"):
        cloned.sync()
    assert (cloned.host / "a.py").read_text() == LINES, "nothing has come out either"


def test_a_guest_that_claims_to_have_written(cloned: Cloned) -> None:
    """It lies about its own copy, whose old file is then a change like any other."""
    write(cloned.host, {"b": "B"})
    cloned.run = lambda asked: Answer(0, b'{"left": {}}') if "put" in asked.argv else run_in_process(asked)
    assert cloned.sync() == {"b": "to copy"}
    assert cloned.found() == {"b": "changed"}


def test_a_guest_that_leaves_all_files_leaves_them_on_the_host_too(cloned: Cloned) -> None:
    write(cloned.host, {"a.py": LINES.replace("1", "host")})
    write(cloned.guest, {"a.py": LINES.replace("7", "copy")})
    said = json.dumps({"left": {"a.py": "\x1b]0;" * 1000}}).encode()
    cloned.run = lambda asked: Answer(0, said) if "put" in asked.argv else run_in_process(asked)
    assert cloned.sync() == {"a.py": "refused"}
    assert (cloned.host / "a.py").read_text() == LINES.replace("1", "host")


def test_a_guest_whose_put_fails(cloned: Cloned) -> None:
    write(cloned.host, {"b": "B"})
    cloned.run = lambda asked: (
        Answer(1, b"", b"Traceback\nOSError: full") if "put" in asked.argv else run_in_process(asked)
    )
    with pytest.raises(GuestError, match="files could not be put into the copy"):
        cloned.sync()


def test_a_disk_of_the_host_that_is_full_leaves_the_copy_as_it_was(
    cloned: Cloned, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cloned.host, {"b": "B"})
    before, real, calls = tree(cloned.guest), Record.write, iter(range(2))

    def write_record(record: Record, *args: Any) -> None:
        if next(calls) == 1:
            raise OSError(28, "No space left on device")
        real(record, *args)

    monkeypatch.setattr(Record, "write", write_record)
    with pytest.raises(OSError, match="No space left"):
        cloned.sync()
    assert tree(cloned.guest) == before


# whoever is killed: the next sync goes right


def edit_both(cloned: Cloned) -> None:
    write(cloned.host, {"a.py": LINES.replace("1", "host"), "b": "of the host", "run.sh": "the same", "h": "h"})
    write(cloned.guest, {"a.py": LINES.replace("7", "copy"), "g": "g", "run.sh": "the same"})
    (cloned.guest / "d/only").unlink()


@pytest.mark.parametrize("word", ["put", "keep"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_what_the_guest_does(cloned: Cloned, word: str, when: str) -> None:
    edit_both(cloned)

    def run(asked: Asked) -> Answer | GuestError:
        answer = run_in_process(asked) if when == "after" or word not in asked.argv else Answer()
        return GuestError("the end of it") if word in asked.argv else answer

    cloned.run = run
    with pytest.raises(GuestError, match="the end of it"):
        cloned.sync()
    cloned.run = run_in_process
    cloned.sync()
    found = same(cloned)
    assert found["a.py"][1] == b"host\n2\n3\n4\n5\n6\ncopy\n" and set(found) == {
        *(".gitignore", "a.py", "b", "g", "h", "run.sh")
    }


@pytest.mark.parametrize("number", range(14))
def test_killed_at_any_step_on_the_host(cloned: Cloned, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """In a process of its own, which ends at the n-th change of the directory with nothing cleaned up."""
    edit_both(cloned)
    write(cloned.guest, {"b2": "x", ".gitignore": "out/\n*.log\nmore\n"})
    write(cloned.host, {".gitignore": "out/\n*.log\nmore\n"})
    pid = os.fork()
    if pid == 0:
        try:
            _die_at(number)
            cloned.sync()
            os._exit(0)
        except BaseException:
            os._exit(7)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 99), code
    cloned.sync()
    found = same(cloned)
    assert found["a.py"][1] == b"host\n2\n3\n4\n5\n6\ncopy\n"
    assert set(found) == {".gitignore", "a.py", "b", "b2", "g", "h", "run.sh"}


def _die_at(number: int) -> None:
    left = [number]

    def dying(call: object) -> object:
        def act(*args: object, **more: object) -> object:
            result = call(*args, **more)  # type: ignore[operator]
            left[0] -= 1
            if left[0] < 0:
                os._exit(99)
            return result

        return act

    for name in ("_write_beside", "_move", "_unlink", "write_all", "exchange"):
        setattr(applying, name, dying(getattr(applying, name)))
    Base.advance = dying(Base.advance)  # type: ignore[method-assign]


def test_what_was_only_taken_from_its_place_is_put_back(cloned: Cloned, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where names cannot change places, a file is missing for a moment; killed then, the next sync finds it."""
    write(cloned.guest, {"b": "of the copy"})
    write(cloned.host, {"b": "b"})
    pid = os.fork()
    if pid == 0:
        applying.exchange = lambda *args, **more: False  # type: ignore[assignment]
        applying._check_old = lambda *args: os._exit(99)
        cloned.sync()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 99
    assert not (cloned.host / "b").exists() and len(list(cloned.host.glob(f"{PREFIX}*"))) == 2
    assert cloned.sync() == {"b": "to host"}
    same(cloned)


def test_an_edit_of_the_last_moment_is_not_lost_when_killed(cloned: Cloned) -> None:
    write(cloned.guest, {"b": "of the copy"})
    pid = os.fork()
    if pid == 0:
        real = applying.exchange

        def exchange(*args: object, **more: object) -> bool:
            (cloned.host / "b").write_text("of the user")
            real(*args, **more)  # type: ignore[arg-type]
            os._exit(99)

        applying.exchange = exchange  # type: ignore[assignment]
        cloned.sync()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 99
    with pytest.raises(InConflict):
        cloned.sync()
    assert (cloned.host / "b").read_text() == "of the user" and not list(cloned.host.glob(f"{PREFIX}*"))


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_directory_of_the_last_moment_is_not_lost_when_killed(cloned: Cloned, can_exchange: bool) -> None:
    write(cloned.guest, {"b": "of the copy"})
    pid = os.fork()
    if pid == 0:
        real = applying.exchange

        def exchange(*args: object, **more: object) -> bool:
            (cloned.host / "b").unlink()
            write(cloned.host, {"b/mine": "m"})
            return can_exchange and real(*args, **more)  # type: ignore[arg-type]

        applying.exchange = exchange  # type: ignore[assignment]
        applying._check_old = lambda *_: os._exit(99)
        cloned.sync()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 99
    assert not (cloned.host / "b").is_dir()
    assert cloned.sync()["b"] == "refused"
    assert (cloned.host / "b/mine").read_text() == "m" and not list(cloned.host.glob(f"{PREFIX}*"))


def test_a_merge_that_was_killed_is_not_merged_once_more(cloned: Cloned) -> None:
    """git would find a conflict between what was merged and one of the two that it was merged of."""
    base, mine, theirs = "abaaaccabcab", "abaaccabcab", "aaaccabcab"
    write(cloned.host, {"r": "\n".join(base) + "\n"})
    assert cloned.sync() == {"r": "to copy"}
    write(cloned.host, {"r": "\n".join(mine) + "\n"})
    write(cloned.guest, {"r": "\n".join(theirs) + "\n"})

    def run(asked: Asked) -> Answer | GuestError:
        if "keep" in asked.argv:
            run_in_process(Asked("exec", {"argv": [*asked.argv[:4], "back", *asked.argv[5:]]}))
            return GuestError("the end of it")
        return run_in_process(asked)

    cloned.run = run
    with pytest.raises(GuestError, match="the end of it"):
        cloned.sync()
    cloned.run = run_in_process
    assert cloned.sync() == {"r": "merge"}
    same(cloned)
