"""Several agents at one task: how many, where they may write, and that one which fails ends no other."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from engine.cli import json_errors
from engine.cli.showing.tasks import Told
from engine.errors import EngineError
from engine.lifecycle import task, tasks
from engine.lifecycle.audience import Audience
from engine.lifecycle.intent import Intent, Wishes
from engine.lifecycle.members import Member, Members
from engine.lifecycle.room import available_memory
from engine.lifecycle.task import Done, Task, _warnings, _with_warnings
from engine.lifecycle.tasks import Ran, run_tasks, several
from engine.lifecycle.up import Agreed, _intents
from engine.state.instances import Listed
from engine.state.layout import Layout
from sandboxfile import load
from vmm.errors import VmmError


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


def member(directory: Path, text: str = "") -> Member:
    (directory / "Sandboxfile.yaml").write_text(f'version: "1"\nname: shop\nagent: {{use: codex}}\n{text}')
    return Member("shop", load(directory / "Sandboxfile.yaml"))


def done(name: str, code: int = 0, **more: Any) -> Done:
    return Done("codex", "1", name, code, "an answer\nof two lines", 1.0, None, None, (), ("a",), **more)


def test_each_machine_has_a_name_of_its_own(tmp_path: Path) -> None:
    found = several(member(tmp_path), 3, shared=False)
    assert len({one.name for one in found}) == 3 and all(one.name.startswith("shop-run-") for one in found)


@pytest.mark.parametrize("count", [0, -1, 65])
def test_a_number_that_makes_no_sense(tmp_path: Path, count: int) -> None:
    with pytest.raises(EngineError, match="from 1 to 64"):
        several(member(tmp_path), count, shared=False)


def test_agents_do_not_write_in_one_directory_by_mistake(tmp_path: Path) -> None:
    live = member(tmp_path, "mounts: ['.:/w']\n")
    with pytest.raises(EngineError, match="2 agents would write in /w at once") as caught:
        several(live, 2, shared=False)
    assert caught.value.exit_code == 2 and "--yes-shared" in str(caught.value.hint)
    assert len(several(live, 2, shared=True)) == 2 and len(several(live, 1, shared=False)) == 1
    assert len(several(member(tmp_path, "mounts: ['.:/w:ro']\n"), 2, shared=False)) == 2


def test_more_than_the_host_has_memory_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "available_memory", lambda: 5 << 30)
    assert len(several(member(tmp_path), 2, shared=False)) == 2
    with pytest.raises(EngineError, match="4 machines need 8GiB of memory, and 5120 MiB") as caught:
        several(member(tmp_path), 4, shared=False)
    assert "--parallel 2 fits" in str(caught.value.hint)


def test_the_memory_that_is_left(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:   50 kB\n")
    assert available_memory(tmp_path / "meminfo") == 50 * 1024
    assert available_memory(tmp_path / "none") is None


def test_the_secrets_of_all_are_read_once(tmp_path: Path, layout: Layout) -> None:
    one = member(tmp_path)
    members = Members(one.loaded, several(one, 3, shared=False))
    first, *others = _intents(members, layout, Wishes(for_task=True))
    assert all(other.twin is first and other.credentials is first.credentials for other in others)


def run(layout: Layout, loaded: Member, outcomes: list[Any], patch: pytest.MonkeyPatch) -> list[Ran]:
    at_once, all_work = 0, asyncio.Event()

    async def run_task(plan: Agreed, task: Task, *rest: Any) -> Done:
        nonlocal at_once
        (intent,) = plan.intents
        on_stderr = cast("Callable[[bytes], None]", rest[2])
        on_stderr(b"half a ")
        at_once += 1
        if at_once == len(outcomes):
            all_work.set()
        await all_work.wait()
        on_stderr(b"line\nrest")
        outcome = outcomes[int(intent.name)]
        if isinstance(outcome, BaseException):
            raise outcome
        return cast("Done", outcome)

    patch.setattr(tasks, "run_task", run_task)
    listed = Listed("shop", "stopped", "stopped")
    intents = tuple(Intent(Member(str(n), loaded.loaded), layout, "auto", listed, None) for n in range(len(outcomes)))
    plan = Agreed(intents, Wishes(), False, 0.0)
    patch.setattr(json_errors, "_wanted", True)  # as the option --json leaves it
    told = Told(len(outcomes))
    found = asyncio.run(run_tasks(plan, Task("x", 1.0), layout, Audience(), told.pass_on))
    code = told.show(found, as_json=True)
    assert code == max(ran.code for ran in found)
    return found


def test_one_that_fails_ends_no_other(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    outcomes = [done("a"), EngineError("no room", hint="make some"), done("c", 124, why="it was not done")]
    found = run(layout, member(tmp_path), outcomes, monkeypatch)
    assert [ran.code for ran in found] == [0, 1, 124]
    out, err = capfdbinary.readouterr()
    rows = json.loads(out)
    assert [row["number"] for row in rows] == [1, 2, 3] and rows[0]["result"].startswith("an answer")
    assert rows[1]["error"]["brief"] == "no room" and rows[2]["why"] == "it was not done"
    lines = err.decode().splitlines()
    assert sorted(lines[:3]) == ["[1] half a line", "[2] half a line", "[3] half a line"]
    assert {"[1] rest", "[2] rest", "[3] rest"} <= set(lines)
    assert "error: no room" in lines and "[3] codex failed: it was not done" in lines


def test_one_alone_is_an_object_and_has_no_number(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (ran,) = run(layout, member(tmp_path), [VmmError("the guest is gone")], monkeypatch)
    assert ran.code == 1
    out, err = capfd.readouterr()
    answer = json.loads(out)
    assert answer["error"]["brief"] == "the guest is gone" and "number" not in answer
    assert err == "half a line\nresterror: the guest is gone\n"


def test_what_has_failed_is_explained(capfd: pytest.CaptureFixture[str]) -> None:
    failed = done("shop-run-1", 137, why="the machine ran out of memory", last_words=("so far",), kept=False)
    assert Told(1).show([Ran(1, "shop-run-1", failed)], as_json=False) == 137
    out, err = capfd.readouterr()
    assert out == "an answer\nof two lines\n"
    assert "codex failed: the machine ran out of memory\n  | so far\n" in err
    assert "hint: `machine: {memory: 4GiB}`" in err and "hint: `--keep-on-failure` leaves the machine" in err
    kept = done("shop-run-1", 1, why="it ended with code 1", kept=True)
    Told(2).show([Ran(2, "shop-run-1", kept)], as_json=False)
    out, err = capfd.readouterr()
    assert out == "[2] an answer\n[2] of two lines\n" and "[2] shop-run-1 runs on: `sandbox down" in err
    assert "--keep-on-failure" not in err


def test_what_the_machine_lacks_is_said_before_what_its_agent_says() -> None:
    before, lost = ["nothing confines the file server"], "the file server of /workspace has ended"
    assert _with_warnings("it ended with code 1", before, [*before, lost]) == f"{lost}; it ended with code 1"
    assert _with_warnings(None, before, [*before, lost]) == lost
    assert _with_warnings("it ended with code 1", before, before) == "it ended with code 1"
    assert _with_warnings(None, [], []) is None


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), EngineError("it is damaged")])
def test_what_the_machine_lacks_need_not_be_known(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent has answered: that is not to be lost."""

    def load(layout: Layout, name: str) -> None:
        raise error

    monkeypatch.setattr(task, "load_instance", load)
    assert _warnings(Layout(tmp_path, tmp_path, tmp_path), "shop") == []
