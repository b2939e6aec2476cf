"""`engine.api`: what a program gets, sync and async, with a supervisor that has no machine."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import CommandLine, FakeSandbox

from engine import api
from engine.api import SandboxfileError, VmmError
from engine.errors import EngineError
from engine.lifecycle.intent import Wishes
from engine.state.layout import Layout

FILE = 'version: "1"\nname: shop\n'


@pytest.fixture(autouse=True)
def in_the_project(sandbox: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox.project)


def test_a_file_is_found_as_the_commands_find_it(sandbox: CommandLine) -> None:
    sandbox.file(FILE)
    assert api.load().sandbox.name == "shop"
    assert api.load(str(sandbox.project), assignments=("name=other",)).sandbox.name == "other"
    with pytest.raises(EngineError, match="does not exist"):
        api.load("nowhere")
    sandbox.file("version: 2\n")
    with pytest.raises(SandboxfileError) as caught:
        api.load()
    assert caught.value.diagnostics[0].position is not None


def test_plan_says_what_up_would_do(sandbox: CommandLine) -> None:
    sandbox.file(FILE)
    (outlook,) = api.plan(api.load())
    assert outlook.changes is None and [step.id for step in outlook.plan.steps][-1] == "booted"


@pytest.mark.usefixtures("fake")
def test_exec_runs_to_the_end(me: str, sandbox: CommandLine) -> None:
    heard: list[tuple[str, bytes]] = []
    script = "cat; echo $WORD >&2; pwd; exit 7"
    done = api.exec(
        None,
        ["sh", "-c", script],
        user=me,
        env={"WORD": "x"},
        stdin=b"in\n",
        on_output=lambda *part: heard.append(part),
    )
    assert (done.code, done.stdout, done.stderr) == (7, f"in\n{sandbox.project}\n".encode(), b"x\n")
    assert ("stderr", b"x\n") in heard
    assert asyncio.run(api.exec_async("shop", ["pwd"], user=me, cwd="/")).stdout == b"/\n"
    with pytest.raises(VmmError, match="not done within"):
        api.exec("shop", ["sleep", "60"], user=me, timeout_s=0.2)


@pytest.mark.skipif(os.geteuid() != 0, reason="what is copied is read and written by the guest's root")
@pytest.mark.usefixtures("fake")
def test_files_go_both_ways(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    there = tmp_path / "there"
    there.mkdir()
    assert api.cp(str(tmp_path / "a"), f":{there}/") == ()
    assert asyncio.run(api.cp_async(f"shop:{there}/a", str(tmp_path / "b"))) == ()
    assert (tmp_path / "b").read_text() == "text"
    with pytest.raises(EngineError, match="one side must be"):
        api.cp("a", "b")


def test_what_is_listed_and_journalled(fake: FakeSandbox, layout: Layout) -> None:
    (listed,) = api.ls()
    assert (listed.name, listed.liveness) == ("shop", "running")
    lines = [{"verdict": "allowed", "host": "a"}, {"verdict": "refused", "host": "b"}]
    path = layout.instance("shop").journal
    path.with_name(f"{path.name}.1").write_text('{"verdict": "failed", "host": "old"}\nnot json\n')
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert [line["host"] for line in api.journal()] == ["old", "a", "b"]
    assert [line["host"] for line in api.journal("shop", refused=True)] == ["old", "b"]


def test_down_ends_it(fake: FakeSandbox) -> None:
    api.down()
    fake.process.wait()
    assert api.ls() == [] and fake.record() is None
    with pytest.raises(EngineError, match="no sandbox of this project runs"):
        api.down()


def test_up_asks_its_audience_and_nobody_by_default(sandbox: CommandLine, tmp_path: Path) -> None:
    sandbox.file(f"{FILE}mounts: ['{tmp_path}:/outside']\n")
    with pytest.raises(EngineError, match="nobody is here to approve that") as caught:
        api.up(api.load())
    assert caught.value.exit_code == 2
    asked = []

    class No(api.Audience):
        def ask(self, question: object) -> bool:
            asked.append(question)
            return False

    for call in (
        lambda: api.up(api.load(), audience=No()),
        lambda: asyncio.run(api.up_async(api.load(), audience=No())),
    ):
        with pytest.raises(EngineError, match="not approved: nothing was started"):
            call()
    assert [isinstance(question, api.HostAccess) for question in asked] == [True, True]


@pytest.mark.usefixtures("fake")
def test_up_is_told_of_what_others_hold(sandbox: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/Sandboxfile.yaml").write_text(FILE)
    with pytest.raises(EngineError, match="the name shop is taken"):
        api.up(api.load(tmp_path / "other"), wishes=Wishes(yes=True))


def test_the_command_lines_library_is_not_loaded() -> None:
    code = "import sys; from engine.api import *; assert 'click' not in sys.modules and callable(up_async)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", api.__all__)
def test_everything_that_is_offered_is_documented(name: str) -> None:
    offered = getattr(api, name)
    assert inspect.getdoc(offered)
