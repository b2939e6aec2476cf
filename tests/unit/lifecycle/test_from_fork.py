"""What a sandbox gets that begins where another one is: its own name and ports, and nothing that it must not have."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_guest import FakeGuest

from engine.errors import EngineError
from engine.gateway.rules import Rule
from engine.guest.identity import Identity
from engine.lifecycle import fork as forking
from engine.lifecycle import from_fork
from engine.lifecycle.clones import alone_with
from engine.lifecycle.down import bring_down
from engine.lifecycle.from_fork import copy_bases, copy_current_bases, launch_of, own_ports, read_launch, taken_ports
from engine.lifecycle.selection import choose, choose_running
from engine.secrets.places import SecretPlaces
from engine.secrets.sources import Source
from engine.state.instances import Instance, save_instance
from engine.state.layout import Layout
from engine.supervisor.launch import Launch
from vmm.snapshot import Shape
from vmm.spec import HostForward

VALUE = "sk-a-value-that-nobody-else-has"
LAUNCH = Launch(
    name="shop", roots={}, toolchain="/t", root="/r", initrd="/i", shape=Shape("tcg", 2, 1 << 20, "10"), snapshot="/s",
    mounts=(), rules=(Rule("api.example"),), forwards=(HostForward(18000, 80),),
    identity=Identity("shop", {"SANDBOX_NAME": "shop", "TOKEN": "sandbox-key"}, files=(("/etc/npmrc", 0o644, "x"),),
                      seeds=(("/home/agent/.seed", 0o600, "x"),), user="me", note=("/home/agent/NOTE", "x")),
    services=("web",), late=("web",), project_name="shop", compose="{}", doors=(("10.0.2.101", 443),),
    secrets=SecretPlaces({"key": (Source("env", "KEY"),)}), addresses={"api.example": "10.0.2.101"},
)  # fmt: skip


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "cache", tmp_path / "state", tmp_path / "run")


def record(name: str, **more: Any) -> Instance:
    return Instance(
        name, "/src/shop", "/src/shop/Sandboxfile.yaml", "key", "2026-01-01T00:00:00+00:00", "running", **more
    )


def test_it_is_told_its_name_and_no_more(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the agent has made of its files since, and what of the services runs, is in the guest."""
    monkeypatch.setenv("KEY", VALUE)
    fork = layout.fork("a" * 16)
    fork.directory.mkdir(parents=True)
    fork.aside.launch.write_text(dataclasses.replace(LAUNCH, boot=True, resume=True).to_json())
    launch = launch_of(read_launch(fork), fork, "shop-2", (HostForward(18001, 80),))
    assert launch.identity == Identity("shop-2", {"SANDBOX_NAME": "shop-2"}, user="me")
    assert (launch.name, launch.snapshot, launch.forked, launch.late) == ("shop-2", str(fork.directory), True, ())
    assert not launch.boot and not launch.resume, "however the source was started"
    assert (launch.rules, launch.doors, launch.addresses) == (LAUNCH.rules, LAUNCH.doors, LAUNCH.addresses)
    assert launch.forwards == (HostForward(18001, 80),) and launch.services == ("web",)
    assert launch.secrets.environment == {"KEY": VALUE}, "read anew, from this environment"
    fork.aside.launch.write_text("nonsense")
    with pytest.raises(EngineError, match="cannot be read"):
        read_launch(fork)


def test_ports_are_the_next_free_ones_that_no_sandbox_has(layout: Layout) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        taken_now = listener.getsockname()[1]
        paused = record("other", ports=[{"host": taken_now + 1, "guest": 1}])._replace(state="paused")
        save_instance(layout, paused)
        taken = taken_ports(layout)
        assert taken == {taken_now + 1}
        wanted = (HostForward(taken_now - 1, 80), HostForward(taken_now - 1, 81))
        first, second = own_ports(wanted, taken)
    assert first.host_port >= taken_now + 2 and second.host_port not in (
        first.host_port,
        *range(taken_now, taken_now + 2),
    )
    assert (first.guest_port, second.guest_port) == (80, 81)
    assert own_ports((HostForward(65535, 80),), set())[0].host_port > 0


def test_bases_of_private_copies_come_along(tmp_path: Path) -> None:
    source, target = tmp_path / "shop/clones", tmp_path / "shop-2/clones"
    (source / "0").mkdir(parents=True)
    (source / "0/manifest.json").write_text("{}")
    copy_bases(source, target)
    assert (target / "0/manifest.json").read_text() == "{}"
    copy_bases(tmp_path / "none", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(EngineError, match="cannot be copied"):
        copy_bases(source, target)  # somebody's is there


def test_what_copies_were_made_of_is_written_down_before_the_machine(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a sync brings in between is in the machine then. In the base alone it would count for undone there, and the
    user's edits would be taken back by the next sync of the fork."""
    base = layout.instance("shop").clone(0)
    base.mkdir(parents=True)
    for name in ("manifest.json", "under-way.json"):
        (base / name).write_text("{}")
    seen: list[list[str]] = []

    async def write_fork(layout: Layout, name: str, there: Any) -> forking.Written:
        seen.append(sorted(path.name for path in (there.clones / "0").iterdir()))
        raise EngineError("that is all")

    monkeypatch.setattr(forking, "forkable", lambda layout, name: record("shop"))
    monkeypatch.setattr(forking, "write_fork", write_fork)
    with pytest.raises(EngineError, match="that is all"):
        asyncio.run(forking.fork(layout, "shop", 1, print))
    assert seen == [["manifest.json"]], "what is under way on this host is no matter of the fork's"


def test_bases_are_copied_while_no_other_command_changes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a sync at work, and for no more than a while."""
    source, target = tmp_path / "shop/clones", tmp_path / "fork/clones"
    (source / "0").mkdir(parents=True)

    async def scenario() -> None:
        with alone_with(source / "0"):
            copying = asyncio.create_task(copy_current_bases(source, target))
            await asyncio.sleep(0)
            assert not copying.done() and not target.exists()
        await copying
        assert (target / "0").is_dir()
        monkeypatch.setattr(from_fork, "ALONE_S", 0.0)
        with alone_with(source / "0"), pytest.raises(EngineError, match="another command is just taking over"):
            await copy_current_bases(source, tmp_path / "other")

    asyncio.run(scenario())


def test_what_cannot_be_started_leaves_nothing(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = layout.fork("a" * 16)
    (fork.clones / "0").mkdir(parents=True)
    launch = dataclasses.replace(LAUNCH, name="shop-2", snapshot=str(fork.directory))

    @contextlib.asynccontextmanager
    async def start_supervisor(layout: Layout, paths: Any) -> AsyncIterator[Any]:
        paths.directory.mkdir(parents=True)

        async def send(launch: Launch) -> None:
            assert paths.clone(0).is_dir()
            raise EngineError("no memory")

        yield SimpleNamespace(pid=os.getpid(), send=send)

    async def start() -> None:
        await from_fork.start_there(layout, record("shop"), None, "shop-2", from_fork.ready(launch), print)

    monkeypatch.setattr(from_fork, "start_supervisor", start_supervisor)
    with pytest.raises(EngineError, match="shop-2: no memory"):
        asyncio.run(start())
    assert not layout.instance("shop-2").directory.exists()


def test_names_follow_that_of_the_source(layout: Layout) -> None:
    save_instance(layout, record("shop-3"))
    with forking._claimed(layout, record("shop"), 2) as names:
        assert names == ["shop-2", "shop-4"]
        with forking._claimed(layout, record("shop"), 1) as others:
            assert others == ["shop-5"], "others are held"


def test_what_cannot_be_forked_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    save_instance(layout, record("shop")._replace(state="paused"))
    with pytest.raises(EngineError, match="is paused"):
        forking.forkable(layout, "shop")
    alive = record("live", mounts=[{"source": "/src", "target": "/workspace"}])
    listed = SimpleNamespace(name="live", liveness="running", status="running", instance=alive)
    monkeypatch.setattr(forking, "look_up", lambda layout, name: listed)
    with pytest.raises(EngineError, match=r"live mounts \(/workspace\)") as raised:
        forking.forkable(layout, "live")
    assert "mode: clone" in str(raised.value.hint)


def test_a_host_without_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "available_memory", lambda: 200 << 20)
    forking._check_memory(record("shop"), 1)
    with pytest.raises(EngineError, match="2 clones of shop would need"):
        forking._check_memory(record("shop"), 2)


@pytest.mark.parametrize("text", ["name: shop\n", "name: shop\nendpoints: [npm]\n", "nonsense: [\n"])
def test_a_file_that_says_something_else_is_told_of(tmp_path: Path, text: str) -> None:
    from sandboxfile import load

    file = tmp_path / "Sandboxfile.yaml"
    file.write_text('version: "1"\nname: shop\n')
    value = load(file).sandbox.model_dump(mode="json", by_alias=True)
    running = SimpleNamespace(configuration=SimpleNamespace(sandbox=value))
    file.write_text(f'version: "1"\n{text}')
    notes = list(
        from_fork.changed_file(record("shop")._replace(file=str(file)), cast("Any", running), "the clone runs")
    )
    assert len(notes) == (0 if text == "name: shop\n" else 1), notes


def test_supervisors_load_while_the_machine_is_written(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told what to start when it is written; where that fails, none of them is left."""
    began, told, ended, failing = asyncio.Event(), list[str](), list[str](), [True, False]

    @contextlib.asynccontextmanager
    async def start_supervisor(layout: Layout, paths: Any) -> AsyncIterator[Any]:
        paths.directory.mkdir(parents=True)
        began.set()

        async def send(launch: Launch) -> None:
            told.append(launch.name)

        async def is_ready(on_event: Any) -> list[Any]:
            return []

        try:
            yield SimpleNamespace(pid=os.getpid(), send=send, ready=is_ready)
        finally:
            ended.append(paths.directory.name)

    async def write_fork(layout: Layout, name: str, there: Any) -> forking.Written:
        await asyncio.wait_for(began.wait(), 10)
        assert not told
        if failing.pop(0):
            raise EngineError("the disk is full")
        there.aside.launch.write_text(LAUNCH.to_json())
        return forking.Written(0.25, all_stood_still=False)

    monkeypatch.setattr(forking, "forkable", lambda layout, name: record("shop"))
    monkeypatch.setattr(forking, "write_fork", write_fork)
    monkeypatch.setattr(from_fork, "start_supervisor", start_supervisor)
    with pytest.raises(EngineError, match=r"\Athe disk is full"):
        asyncio.run(forking.fork(layout, "shop", 2, print))
    assert not told and sorted(ended) == ["shop-2", "shop-3"]
    assert not layout.instance("shop-2").directory.exists() and not layout.instance("shop-3").directory.exists()
    began.clear()
    forked = asyncio.run(forking.fork(layout, "shop", 2, print))
    assert [clone.name for clone in forked.clones] == ["shop-2", "shop-3"] == sorted(told)
    assert forked.stood_still_s == 0.25
    assert [note.split(":")[0] for note in forked.notes] == ["not all programs of shop stood still when it was written"]


@pytest.mark.parametrize(
    ("answer", "stood_still"),
    [
        ({"stood_still_s": 0.25, "all_stood_still": True}, True),
        ({"stood_still_s": 0.25, "all_stood_still": False}, False),
        ({"stood_still_s": 0.25}, False),
    ],
)
def test_what_a_supervisor_says_of_the_programs(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], stood_still: bool
) -> None:
    """One of an older version says nothing of them: then nobody knows."""

    @contextlib.asynccontextmanager
    async def supervisor() -> AsyncIterator[FakeGuest]:
        channel = FakeGuest()
        channel.answer_call("fork", answer)
        yield channel

    async def connect(path: Path) -> Any:
        return supervisor()

    monkeypatch.setattr(forking, "connect", connect)
    there = layout.fork("a" * 16)
    written = asyncio.run(forking.write_fork(layout, "shop", there))
    assert written == forking.Written(0.25, stood_still)
    assert bool([*written.notes("shop")]) is not stood_still


def test_what_a_killed_command_has_left_can_be_named(layout: Layout) -> None:
    """A directory without a record: `down NAME` finds it, and nothing that needs a sandbox takes it for one."""
    with pytest.raises(EngineError, match="there is no sandbox called shop-2"):
        choose(layout, "shop-2")
    layout.instance("shop-2").directory.mkdir(parents=True)
    assert choose(layout, "shop-2").status == "stopped: it has no record"
    with pytest.raises(EngineError, match="the sandbox shop-2 is not running"):
        choose_running(layout, "shop-2")
    asyncio.run(bring_down(layout, "shop-2"))
    assert not layout.instance("shop-2").directory.exists()
