"""Stopping and the cold boot: what is kept from which moment on, in which order things end, and come back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_guest import Answer, Asked, FakeGuest

from engine.errors import EngineError
from engine.gateway.authority import Authority
from engine.gateway.rules import Rule
from engine.guest.guest import Guest
from engine.guest.identity import Identity
from engine.secrets.places import SecretPlaces
from engine.secrets.sources import Source
from engine.state.instance_paths import InstancePaths, KeptPaths, Sockets
from engine.state.instances import Instance, load_instance, look_up, save_instance
from engine.state.layout import Layout
from engine.supervisor import disk_room, ends, stopping
from engine.supervisor.ends import Ends
from engine.supervisor.held_ports import SOCKET, end_waker
from engine.supervisor.launch import Launch
from engine.supervisor.ports import OpenPorts
from engine.supervisor.stopping import FORCED, Starting, Stopper
from engine.supervisor.temporary import SaidBefore, TemporaryEndpoint
from vmm.errors import VmmError
from vmm.snapshot import Shape
from vmm.spec import HostForward

VALUE = "sk-a-value-that-nobody-else-has"
LAUNCH = Launch(
    name="shop", roots={}, toolchain="/t", root="/r", initrd="/i", shape=Shape("tcg", 2, 1 << 22, "10.0.13"),
    snapshot="/s", mounts=(), rules=(), forwards=(), identity=Identity("shop", {"A": "1"}), services=(), late=(),
    project_name="shop", compose=None, secrets=SecretPlaces({"key": (Source("env", "KEY"),)}, {"KEY": VALUE}),
)  # fmt: skip
DENIED = SaidBefore(TemporaryEndpoint("bad.example", True, (Rule("bad.example", deny=True),)))


class FakeMachine:
    """A machine that ends when the guest powers off, or when it is told to; `said` is what was asked of it."""

    pid = os.getpid()

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.said: list[str] = []
        self.qmp = self
        self.status = "running"

    @contextlib.contextmanager
    def hearing(self, event: str) -> Iterator[Any]:
        never = asyncio.Event()
        yield SimpleNamespace(get=never.wait, clear=lambda: None)

    async def execute(self, command: str) -> Any:
        assert command == "query-status"
        return {"status": self.status}

    async def run(self) -> None:
        self.said.append("goes on")
        self.status = "running"
        self.ended.set()  # as the guest was about to

    async def wait(self) -> int:
        await self.ended.wait()
        return 0

    async def quit(self) -> None:
        self.said.append("quit")
        self.ended.set()

    def last_words(self) -> str:
        return "its last words"


class World:
    """One sandbox in a running loop, and who stops it."""

    def __init__(self, base: Path, channel: FakeGuest) -> None:
        self.paths = InstancePaths(base / "shop", Sockets(base / "run"))
        self.machine = FakeMachine()
        self.channel = channel
        self.adjuster = SimpleNamespace(busy=asyncio.Lock(), revise=lambda launch: launch)
        gateway = SimpleNamespace(authority=Authority.create("shop"), addresses={}, connections=0)
        self.guest = Guest(
            cast("Any", self.machine), channel, cast("Any", gateway), None, asyncio.ensure_future(asyncio.sleep(0))
        )
        temporary = cast("Any", SimpleNamespace(said=[DENIED]))
        self.stopper = Stopper(self.paths, LAUNCH, self.guest, cast("Any", self.adjuster), temporary)

    def powers_off(self, asked: Asked) -> Answer:
        assert self.paths.stopped.directory.is_dir(), "it is kept before the guest is asked to end"
        self.machine.ended.set()
        return Answer()


def scene(tmp_path: Path, play: Callable[[World], Any]) -> World:
    async def body() -> World:
        async with FakeGuest() as channel:
            world = World(tmp_path, channel)
            await play(world)
            return world

    return asyncio.run(body())


def test_services_end_then_the_guest_then_it_is_stopped(tmp_path: Path) -> None:
    async def play(world: World) -> None:
        world.channel.answer("poweroff", world.powers_off)
        assert await world.stopper.handle({}, cast("Any", None)) == {"forced": None}
        assert world.stopper.stopped.is_set() and world.machine.said == []

    world = scene(tmp_path, play)
    assert ["docker stop" in world.channel.commands[0], world.channel.commands[1:]] == [True, ["systemctl poweroff"]]
    launch = Launch.from_json(world.paths.stopped.launch.read_bytes())
    assert dict(launch.secrets.sources) == dict(LAUNCH.secrets.sources)
    for path in world.paths.stopped.directory.iterdir():
        assert VALUE.encode() not in path.read_bytes(), path


def test_a_guest_that_does_not_end_is_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "POWER_OFF_S", 0.05)
    monkeypatch.setattr(stopping, "SERVICES_S", 0.05)

    async def play(world: World) -> None:
        world.channel.answer("docker", Answer(hangs=True))
        world.channel.answer("poweroff", Answer(hangs=True))
        assert await world.stopper.handle({}, cast("Any", None)) == {"forced": FORCED}
        assert world.machine.said == ["quit"] and world.paths.stopped.directory.is_dir()

    scene(tmp_path, play)


def test_one_that_stands_for_want_of_room_is_let_go_on_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_room, "LOOK_S", 0.001)
    monkeypatch.setattr(disk_room, "ENOUGH", 0)
    monkeypatch.setattr(stopping, "POWER_OFF_S", 10.0)

    async def play(world: World) -> None:
        world.machine.status = disk_room.HALTED
        await world.stopper.stop()
        assert world.stopper.forced is None and world.machine.said == ["goes on"]

    scene(tmp_path, play)


def test_who_gives_up_does_not_stop_the_stop(tmp_path: Path) -> None:
    async def play(world: World) -> None:
        task = asyncio.create_task(world.stopper.stop())
        await world.stopper.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        world.machine.ended.set()
        await world.stopper.stopped.wait()

    scene(tmp_path, play)


def test_a_slow_disk_keeps_nobody_else_waiting_and_who_gives_up_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, may, left = threading.Event(), threading.Event(), threading.Event()

    def slow(paths: KeptPaths, *parts: object) -> None:
        reached.set()
        assert may.wait(60) and paths.directory.is_dir()
        left.set()

    async def play(world: World) -> None:
        monkeypatch.setattr(stopping, "write_kept", slow)
        task = asyncio.create_task(world.stopper.stop())
        assert await asyncio.to_thread(reached.wait, 60)
        task.cancel()
        await asyncio.sleep(0)
        may.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left.is_set() and not world.stopper.begun.is_set() and world.channel.commands == []
        assert list(world.paths.directory.iterdir()) == []

    scene(tmp_path, play)


def test_what_cannot_be_written_lets_it_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: object) -> None:
        raise OSError(28, "No space left on device")

    async def play(world: World) -> None:
        monkeypatch.setattr(stopping, "write_kept", full)
        with pytest.raises(EngineError, match="runs on: No space left"):
            await world.stopper.stop()
        assert world.channel.commands == [] and not world.stopper.begun.is_set()
        assert list(world.paths.directory.iterdir()) == []

    scene(tmp_path, play)


def test_a_change_meanwhile_is_refused(tmp_path: Path) -> None:
    async def play(world: World) -> None:
        async with world.adjuster.busy:
            with pytest.raises(EngineError, match="just now"):
                await world.stopper.stop()
        assert world.channel.commands == []

    scene(tmp_path, play)


def test_a_cold_boot_denies_first_and_knows_who_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "load_snapshot", lambda path: SimpleNamespace(drives=("the layer",)))

    async def play(world: World) -> None:
        world.channel.answer("poweroff", world.powers_off)
        await world.stopper.stop()
        starting, seen = Starting(world.paths), list[str]()
        cold = starting.prepare(LAUNCH)
        assert cold.authority is not None and world.guest.gateway.authority is not None
        assert cold.authority.certificate == world.guest.gateway.authority.certificate
        gateway = SimpleNamespace(
            accept_temporary=lambda: None, set_temporary=lambda rules: seen.extend(rule.host for rule in rules)
        )
        cold.before_it_runs(cast("Any", gateway))
        assert seen == ["bad.example"] and cold.drives == ("the layer",)  # type: ignore[comparison-overlap]
        assert world.paths.stopped.directory.is_dir(), "stopped until it runs"
        starting.done()
        assert list(world.paths.directory.iterdir()) == []

    scene(tmp_path, play)


def test_services_come_after_the_layer_and_the_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drives = (SimpleNamespace(serial="agent"),)
    monkeypatch.setattr(stopping, "load_snapshot", lambda path: SimpleNamespace(drives=drives))
    said: list[str] = []

    async def play(world: World) -> None:
        async def mount() -> None:
            said.extend([*(asked.op for asked in world.channel.asked), "mounted"])

        launch = dataclasses.replace(LAUNCH, services=("web",), mounts=(cast("Any", None),))
        await Starting(world.paths).bring_up(launch, world.channel, mount, said.append, said.append)

    world = scene(tmp_path, play)
    assert said == ["waiting for Docker", "exec", "wait_unit", "exec", "mounted", "starting web"]
    layer, stop, up = (asked.argv for asked in world.channel.asked if asked.op == "exec")
    assert layer[-2:] == ["agent", "/opt/.agent"] and "docker stop" in stop[-1] and up[-2:] == ["--wait", "web"]


def ending(world: World, layout: Layout, **changes: Any) -> Ends:
    record = Instance("shop", "/p", "/p/Sandboxfile.yaml", "k", "now", "running", pid=1, process="x")
    save_instance(layout, record)
    parts: dict[str, Any] = {
        "ports": SimpleNamespace(connections=0),
        "stop": asyncio.Event(),
        "keeper": SimpleNamespace(end=True, save=lambda: asyncio.sleep(0)),
        "pauser": SimpleNamespace(paused=asyncio.Event()),
        **changes,
    }
    return Ends(
        world.guest, parts["ports"], layout, record, parts["stop"], parts["keeper"], parts["pauser"], world.stopper, {}
    )


def idle_of(monkeypatch: pytest.MonkeyPatch, idle: object) -> None:
    async def at_once(use: object, limit: Callable[[], float | None]) -> float:
        if (seconds := limit()) is None:
            await asyncio.Event().wait()
        return cast("float", seconds)

    monkeypatch.setattr(ends, "wait_idle", at_once)
    machine = {"machine": {"idle": idle}}
    running = SimpleNamespace(configuration=SimpleNamespace(sandbox=machine))
    monkeypatch.setattr(ends, "load_running", lambda layout, name: running)


@pytest.mark.parametrize("idle", [60, {"after": 60, "do": "stop"}])
def test_an_idle_one_is_stopped_with_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idle: object) -> None:
    layout = Layout.from_environment(os.environ)
    idle_of(monkeypatch, idle)

    async def play(world: World) -> None:
        world.channel.answer("poweroff", world.powers_off)
        assert await ending(world, layout).wait(pytest.fail) == 0
        assert look_up(layout, "shop").status == "stopped: nobody used it for 1m"
        assert world.paths.stopped.launch.exists()

    scene(tmp_path, play)


def test_an_idle_one_is_paused_where_the_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.from_environment(os.environ)
    idle_of(monkeypatch, {"after": 120, "do": "pause"})
    log: list[str] = []

    async def play(world: World) -> None:
        tries = iter([VmmError("no room on the disk"), None])
        paused = asyncio.Event()

        async def pause() -> None:
            if (error := next(tries)) is not None:
                raise error
            paused.set()

        pauser = SimpleNamespace(paused=paused, pause=pause)
        assert await ending(world, layout, pauser=pauser).wait(log.append) == 0
        assert look_up(layout, "shop").status == "paused: nobody used it for 2m" and world.machine.said == ["quit"]

    scene(tmp_path, play)
    assert log == ["it is idle, and could not pause: no room on the disk"], "it was tried again"


def test_who_goes_on_finds_the_waker_of_a_paused_one_whose_machine_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout.from_environment(os.environ)
    idle_of(monkeypatch, None)

    async def play(world: World) -> None:
        pauser = SimpleNamespace(paused=asyncio.Event(), release_ports=False)
        with OpenPorts([HostForward(0, 80)]) as ports:
            end = ending(world, layout, pauser=pauser, ports=ports)
            layout.instance("shop").paused.directory.mkdir(parents=True)
            pauser.on_paused()
        pauser.paused.set()
        quit_it = world.machine.quit

        async def quit_and_look() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(layout.waker("shop") / SOCKET))
            await quit_it()

        monkeypatch.setattr(world.machine, "quit", quit_and_look)
        try:
            assert await end.wait(pytest.fail) == 0 and world.machine.said == ["quit"]
        finally:
            waker = cast("Any", end._waker)
            waker.stdin.close()
            await asyncio.to_thread(end_waker, layout.waker("shop"))
            waker.terminate()
            await asyncio.to_thread(waker.wait)

    scene(tmp_path, play)


def test_a_machine_that_ends_by_itself_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.from_environment(os.environ)
    idle_of(monkeypatch, None)

    async def play(world: World) -> None:
        world.machine.ended.set()
        assert await ending(world, layout).wait(pytest.fail) == 1

    scene(tmp_path, play)
    record = load_instance(layout, "shop")
    assert record is not None and record.error == "the machine ended by itself\nits last words"


@pytest.mark.parametrize("state", ["starting", "running"])
def test_one_whose_supervisor_was_killed_on_the_way_is_stopped(state: Any) -> None:
    layout = Layout.from_environment(os.environ)
    save_instance(layout, Instance("shop", "/p", "/p/S.yaml", "k", "now", state, pid=1, process="another boot/1"))
    assert look_up(layout, "shop").liveness == "dead"
    layout.instance("shop").stopped.directory.mkdir()
    assert look_up(layout, "shop").liveness == "stopped"
    assert json.loads(layout.instance("shop").record.read_text())["state"] == state
