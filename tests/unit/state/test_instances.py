"""Records that are whole, names that belong to one project, and no dead sandbox that looks alive."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError
from engine.state.instances import (
    Instance,
    Listed,
    claim,
    forget_instance,
    hold_name,
    list_instances,
    load_instance,
    look_up,
    save_instance,
)
from engine.state.layout import Layout
from engine.state.processes import describe_process, is_same_process

PROJECT = Path("/src/shop")


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until its stdin closes."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def shop(**changes: Any) -> Instance:
    instance = Instance(
        name="shop",
        project=str(PROJECT),
        file=str(PROJECT / "Sandboxfile.yaml"),
        plan_key="ab" * 16,
        created="2026-11-23T12:01:00+00:00",
        state="running",
        pid=os.getpid(),
        process=describe_process(os.getpid()),
        ports=[{"host": 3000, "guest": 3000}],
    )
    return instance._replace(**changes)


def status(layout: Layout, answer: bool = True) -> str:
    (listed,) = list_instances(layout, answers=lambda control: answer)
    return listed.status


def test_a_record_comes_back_as_it_was(layout: Layout) -> None:
    save_instance(layout, shop())
    assert load_instance(layout, "shop") == shop()
    assert load_instance(layout, "other") is None
    assert [path.name for path in layout.instance("shop").directory.iterdir()] == ["instance.json"]


def test_without_sandboxes_the_list_is_empty(layout: Layout) -> None:
    assert list_instances(layout) == []


def test_a_newer_record_is_refused_with_a_reason(layout: Layout) -> None:
    save_instance(layout, shop(version=2))
    with pytest.raises(EngineError, match="made by a newer version") as caught:
        load_instance(layout, "shop")
    assert "has version 2, this one reads 1" in str(caught.value.details)


def test_fields_of_later_programs_with_the_same_version_are_skipped(layout: Layout) -> None:
    save_instance(layout, shop())
    path = layout.instance("shop").record
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": 1}))
    assert load_instance(layout, "shop") == shop()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": "1"}',
        '{"version": 1, "name": "shop"}',
        json.dumps(shop(name="other")._asdict()),
        json.dumps(shop()._asdict() | {"state": "dancing"}),
        json.dumps(shop()._asdict() | {"pid": "12"}),
        json.dumps(shop()._asdict() | {"ports": {}}),
        json.dumps(shop()._asdict() | {"warnings": None}),
    ],
)
def test_a_damaged_record_is_refused_but_listed(layout: Layout, text: str) -> None:
    path = layout.instance("shop").record
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(EngineError, match="the record of sandbox shop is damaged") as caught:
        load_instance(layout, "shop")
    assert str(path) in str(caught.value.details)
    assert list_instances(layout) == [Listed("shop", "unreadable", "unreadable: the record of sandbox shop is damaged")]


def test_a_living_supervisor_that_answers_runs(layout: Layout) -> None:
    save_instance(layout, shop())
    assert status(layout) == "running"
    assert status(layout, answer=False) == f"unresponsive: supervisor {os.getpid()} does not answer"
    save_instance(layout, shop(state="starting"))
    assert status(layout, answer=False) == "starting"


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_an_ended_one_says_how(layout: Layout, state: Any) -> None:
    save_instance(layout, shop(state=state, pid=None))
    assert status(layout) == state


@pytest.mark.parametrize("state", ["starting", "running"])
def test_a_killed_supervisor_is_dead_even_before_it_is_reaped(
    layout: Layout, child: subprocess.Popen[bytes], state: Any
) -> None:
    save_instance(layout, shop(state=state, pid=child.pid, process=describe_process(child.pid)))
    assert status(layout) == state
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert status(layout) == "dead: supervisor was killed"
    child.wait()
    assert status(layout) == "dead: supervisor was killed"


def test_a_pid_used_again_is_not_the_supervisor(layout: Layout) -> None:
    save_instance(layout, shop(process="an earlier boot/1"))
    assert status(layout) == "dead: supervisor was killed"
    save_instance(layout, shop(pid=None, process=None))
    assert status(layout) == "dead: supervisor was killed"


def test_processes_are_told_apart(child: subprocess.Popen[bytes]) -> None:
    described = describe_process(child.pid)
    assert described is not None
    assert described == describe_process(child.pid)
    assert is_same_process(child.pid, described)
    assert not is_same_process(os.getpid(), described)
    assert describe_process(2**22 + 1) is None


def test_a_control_socket_counts_when_somebody_accepts(layout: Layout) -> None:
    save_instance(layout, shop())
    control = layout.instance("shop").sockets.control
    control.parent.mkdir(mode=0o700)
    assert look_up(layout, "shop").liveness == "unresponsive"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(control))
        assert look_up(layout, "shop").liveness == "unresponsive"
        server.listen()
        assert look_up(layout, "shop").liveness == "running"
    assert look_up(layout, "shop").liveness == "unresponsive"


def test_nobodys_name_is_stopped(layout: Layout) -> None:
    assert look_up(layout, "nobody").liveness == "stopped"


def test_a_claim_yields_the_record_and_excludes_others(layout: Layout) -> None:
    with claim(layout, "shop", PROJECT) as before:
        assert before is None
        save_instance(layout, shop())
        with pytest.raises(EngineError, match="another command is bringing shop up or down"):
            with claim(layout, "shop", PROJECT):
                pass
        with claim(layout, "other", PROJECT):
            pass
    with claim(layout, "shop", PROJECT) as before:
        assert before == shop()


def test_a_claim_ends_with_an_error(layout: Layout) -> None:
    with pytest.raises(KeyboardInterrupt), hold_name(layout, "shop"):
        raise KeyboardInterrupt
    with hold_name(layout, "shop"):
        pass


def test_a_claim_excludes_other_processes_and_ends_with_them(layout: Layout) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from engine.state.layout import Layout; from engine.state.instances import claim\n"
        "with claim(Layout.from_environment(os.environ), 'shop', Path('/src/shop')):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(EngineError, match="another command"), claim(layout, "shop", PROJECT):
            pass
        process.kill()
        process.wait()
        with claim(layout, "shop", PROJECT):
            pass


def test_a_name_belongs_to_one_project(layout: Layout) -> None:
    save_instance(layout, shop())
    with pytest.raises(EngineError, match="the name shop is taken by /src/shop") as caught:
        with claim(layout, "shop", Path("/src/other/shop")):
            pass
    assert "--name" in str(caught.value.hint)


def test_forgetting_leaves_nothing(layout: Layout) -> None:
    save_instance(layout, shop())
    paths = layout.instance("shop")
    paths.disk.touch()
    (paths.directory / "more").mkdir()
    paths.sockets.directory.mkdir()
    forget_instance(layout, "shop")
    forget_instance(layout, "shop")
    assert list(layout.instances.iterdir()) == []
    assert not paths.sockets.directory.exists()
