"""`stop` and `start`, before anything runs: what may be started, and what is checked again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine import api
from engine.cli.commands import acp
from engine.cli.waking import start_members, wake_members
from engine.errors import EngineError
from engine.files import make_private
from engine.guest.identity import Identity
from engine.lifecycle import pause as pause_module
from engine.lifecycle import stop as stop_module
from engine.lifecycle.audience import Audience
from engine.lifecycle.intent import Wishes, intend
from engine.lifecycle.members import choose_members
from engine.lifecycle.stop import can_start, check_start, start_stopped, stop
from engine.state.instances import Instance, look_up, save_instance
from engine.state.layout import Layout
from engine.state.processes import describe_process
from engine.supervisor.launch import Launch
from engine.workspaces.mount_point import MountPoint
from vmm.snapshot import Shape

FILE = 'version: "1"\nname: shop\nmounts: [".:/workspace"]\n'


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


@pytest.fixture
def project(tmp_path: Path, layout: Layout) -> Path:
    """A project whose sandbox `shop` is stopped."""
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "Sandboxfile.yaml").write_text(FILE)
    record = Instance("shop", str(project), str(project / "Sandboxfile.yaml"), "k", "now", "stopped")
    save_instance(layout, record)
    launch = Launch(
        name="shop", roots={}, toolchain="/t", root="/r", initrd="/i", shape=Shape("tcg", 2, 1 << 22, "10"),
        snapshot=str(tmp_path), mounts=(MountPoint(str(project / "src"), "/workspace", False),), rules=(), forwards=(),
        identity=Identity("shop"), services=(), late=(), project_name="shop", compose=None,
    )  # fmt: skip
    kept = layout.instance("shop").stopped
    make_private(kept.directory)
    kept.launch.write_text(launch.to_json())
    return project


def test_the_user_has_to_agree_as_for_up(layout: Layout, project: Path) -> None:
    with pytest.raises(EngineError, match="nobody is here to approve that") as caught:
        check_start(layout, "shop", Audience(), yes=False)
    assert caught.value.exit_code == 2
    check_start(layout, "shop", Audience(), yes=True)


@pytest.mark.parametrize("waits", ["paused", "stopped"])
def test_a_wake_whose_command_was_killed_is_waited_for(
    waits: str, layout: Layout, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its supervisor ends soon after it, and the sandbox waits again: `up` wakes it then."""
    if waits == "paused":
        layout.instance("shop").stopped.directory.rename(layout.instance("shop").paused.directory)
    woken: list[str] = []

    async def wake(layout: Layout, name: str, on_event: object) -> None:
        woken.append(name)

    monkeypatch.setattr(pause_module, "resume", wake)
    monkeypatch.setattr(stop_module, "start_stopped", wake)
    with subprocess.Popen(["sleep", "60"]) as supervisor:
        process = describe_process(supervisor.pid)
        record = Instance("shop", str(project), str(project / "Sandboxfile.yaml"), "k", "now", "starting")
        save_instance(layout, record._replace(pid=supervisor.pid, process=process))
        ending = threading.Timer(0.3, supervisor.kill)
        ending.start()
        wake_members(layout, ["shop"])
        start_members(layout, ["shop"], yes=True, audience=Audience())
        ending.join()
    assert woken == ["shop"]


def test_a_mount_that_leads_elsewhere_is_refused(layout: Layout, project: Path) -> None:
    (project / "src").rename(project / "away")
    with pytest.raises(EngineError, match="is not what it was"):
        check_start(layout, "shop", Audience(), yes=True)
    (project / "src").symlink_to("/etc")
    with pytest.raises(EngineError, match="is not what it was"):
        asyncio.run(start_stopped(layout, "shop", lambda line: None))


def test_a_snapshot_that_is_gone_is_said(layout: Layout, project: Path, tmp_path: Path) -> None:
    path = layout.instance("shop").stopped.launch
    path.write_text(path.read_text().replace(f'"{tmp_path}"', '"/gone"'))
    with pytest.raises(EngineError, match="the snapshot below the disk of shop is gone"):
        asyncio.run(start_stopped(layout, "shop", lambda line: None))


def test_what_fails_stays_stopped_and_says_how_to_go_on(
    layout: Layout, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*words: Any, **how: Any) -> Instance:
        assert how == {"boot": True} and words[3] == "stopped"
        raise EngineError("services are not healthy", hint="look at them")

    monkeypatch.setattr("engine.lifecycle.kept.wake", fails)
    with pytest.raises(EngineError) as caught:
        asyncio.run(start_stopped(layout, "shop", lambda line: None))
    assert str(caught.value.hint).startswith("look at them; shop stays stopped; `sandbox up --recreate`")
    assert can_start(layout, look_up(layout, "shop"))


@pytest.mark.parametrize(
    ("state", "words"), [("paused", "is paused"), ("failed", "cannot be started"), ("stopped", "cannot be started")]
)
def test_what_cannot_be_started(layout: Layout, project: Path, state: Any, words: str) -> None:
    listed = look_up(layout, "shop").instance
    assert listed is not None
    save_instance(layout, listed._replace(state=state))
    if state == "stopped":  # as older versions leave it
        layout.instance("shop").stopped.launch.unlink()
        layout.instance("shop").stopped.directory.rmdir()
    with pytest.raises(EngineError, match=words):
        asyncio.run(start_stopped(layout, "shop", lambda line: None))


def test_what_is_stopped_cannot_be_stopped(layout: Layout, project: Path) -> None:
    with pytest.raises(EngineError, match="is stopped already") as caught:
        asyncio.run(stop(layout, "shop"))
    assert "`sandbox start shop`" in str(caught.value.hint)


def test_nobody_throws_it_away_unasked(layout: Layout, project: Path) -> None:
    """Also where it was stopped a moment ago, by its idle time."""
    (member,) = choose_members(api.load(project), layout, None, None).each
    with pytest.raises(EngineError, match="shop is stopped") as caught:
        intend(member, layout, Wishes(yes=True))
    assert "`sandbox start shop`" in str(caught.value.hint)
    assert intend(member, layout, Wishes(recreate=True)).doing == "start"
    layout.instance("shop").stopped.launch.unlink()
    layout.instance("shop").stopped.directory.rmdir()
    assert intend(member, layout, Wishes()).doing == "start", "what cannot be started is made anew"


@pytest.mark.parametrize("who", ["a program", "a program with a loop", "an editor"])
def test_others_start_it_as_up_does(layout: Layout, project: Path, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    woken = []

    async def fails(layout: Layout, record: Instance, *words: Any, **how: Any) -> Instance:
        woken.append((record.name, how))
        raise EngineError("services are not healthy")

    def work() -> None:
        if who == "an editor":
            done = CliRunner().invoke(acp.command, ["-y", "--command", "adapter", "-C", str(project)])
            assert done.exception is not None
            raise done.exception
        if who == "a program":
            api.up(api.load(project), wishes=Wishes(yes=True), layout=layout)
        else:
            asyncio.run(api.up_async(api.load(project), wishes=Wishes(yes=True), layout=layout))

    monkeypatch.setattr("engine.lifecycle.kept.wake", fails)
    with pytest.raises(EngineError, match="services are not healthy"):
        work()
    assert woken == [("shop", {"boot": True})] and can_start(layout, look_up(layout, "shop"))
