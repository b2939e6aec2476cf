"""Pausing: what is on the disk and when, what is not on it, and that whatever fails lets the machine run on."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import gc
import json
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.errors import EngineError
from engine.gateway.authority import Authority
from engine.gateway.rules import Rule
from engine.guest.guest import Guest
from engine.guest.identity import Identity
from engine.guest.network import doors_of
from engine.secrets.places import SecretPlaces
from engine.secrets.sources import Source
from engine.state.instance_paths import InstancePaths, Sockets
from engine.supervisor.ends import Ends
from engine.supervisor.launch import Launch
from engine.supervisor.pausing import Pauser, Resumption
from engine.supervisor.ports import OpenPorts
from engine.supervisor.temporary import SaidBefore, TemporaryEndpoint
from vmm import suspension
from vmm.errors import VmmError
from vmm.snapshot import Shape, load_snapshot
from vmm.spec import HostForward

MIB = 1024 * 1024
SHAPE = Shape("tcg", 2, 4 * MIB, "10.0.13")
VALUE = "sk-a-value-that-nobody-else-has"
LAUNCH = Launch(
    name="shop", roots={}, toolchain="/t", root="/r", initrd="/i", shape=SHAPE, snapshot="/s", mounts=(), rules=(),
    forwards=(), identity=Identity("shop"), services=(), late=(), project_name="shop", compose=None,
    secrets=SecretPlaces({"key": (Source("env", "KEY"),)}, {"KEY": VALUE}, {"key": VALUE}),
    proxies={"https_proxy": f"http://me:{VALUE}@proxy:3128"},
)  # fmt: skip


class FakeMachine:
    """A machine that stands still, saves and goes on; `said` is in which order."""

    plugged = ()
    spec = SimpleNamespace(memory=SimpleNamespace(shared=True))

    def __init__(self, save: Callable[[Path], None] = lambda state: None) -> None:
        self.said: list[str] = []
        self._save = save

    async def stand_still(self) -> None:
        self.said.append("stands still")

    async def run(self) -> None:
        self.said.append("goes on")

    async def save(self, state: Path) -> None:
        self.said.append("saves")
        self._save(state)
        state.write_bytes(b"devices")


class World:
    """One sandbox, and who pauses it."""

    def __init__(self, base: Path, machine: FakeMachine) -> None:
        self.paths = InstancePaths(base / "shop", Sockets(base / "run"))
        self.machine = machine
        self.memory = os.memfd_create("ram")
        os.ftruncate(self.memory, SHAPE.memory)
        os.pwrite(self.memory, b"pages", 2 * MIB)
        self.authority = Authority.create("shop")
        self.said = [
            SaidBefore(TemporaryEndpoint("bad.example", True, (Rule("bad.example", deny=True),))),
            SaidBefore(TemporaryEndpoint("old.example", False, (Rule("old.example"),)), until_s=1.0),
        ]
        self.adjuster = SimpleNamespace(
            busy=asyncio.Lock(), revise=lambda launch: dataclasses.replace(launch, rules=(Rule("new.example"),))
        )
        gateway = SimpleNamespace(authority=self.authority, addresses={"old.example": "10.0.2.101"})
        guest = Guest(cast("Any", machine), cast("Any", None), cast("Any", gateway), self.memory, cast("Any", None))
        temporary = cast("Any", SimpleNamespace(said=self.said))
        self.pauser = Pauser(self.paths, LAUNCH, guest, cast("Any", self.adjuster), temporary)

    def pause(self) -> None:
        asyncio.run(self.pauser.pause())

    def left(self) -> list[str]:
        return sorted(path.name for path in self.paths.directory.iterdir())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, FakeMachine())


def test_all_of_it_is_on_the_disk_and_no_value_of_a_secret(world: World) -> None:
    world.pause()
    assert world.machine.said == ["stands still", "saves"] and world.pauser.paused.is_set()
    paused = world.paths.paused
    snapshot = load_snapshot(paused.directory)
    assert snapshot.shape == SHAPE and snapshot.ram.stat().st_size == SHAPE.memory
    assert snapshot.ram.read_bytes()[2 * MIB :][:5] == b"pages" and snapshot.state.read_bytes() == b"devices"
    launch = Launch.from_json(paused.launch.read_bytes())
    assert launch.rules == (Rule("new.example"),), "what it was changed to while it ran"
    assert launch.addresses == {"old.example": "10.0.2.101"}, "the guest remembers it"
    assert launch.doors == tuple(doors_of(launch.policy(), launch.addresses)) != ()
    assert dict(launch.secrets.sources) == dict(LAUNCH.secrets.sources)
    for path in paused.directory.iterdir():
        assert VALUE.encode() not in path.read_bytes(), path
        # A fake's own; QEMU writes it with the mask of all that we start.
        assert path.name == "state" or stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("error", [VmmError("QEMU refused"), OSError(errno.ENOSPC, "No space left on device")])
def test_what_fails_lets_it_run_on(tmp_path: Path, error: Exception) -> None:
    def save(state: Path) -> None:
        raise error

    world = World(tmp_path, FakeMachine(save))
    with pytest.raises((VmmError, EngineError)) as raised:
        world.pause()
    assert world.machine.said == ["stands still", "saves", "goes on"]
    assert world.left() == [] and not world.pauser.paused.is_set()
    assert "No space" not in str(error) or "runs on: No space" in str(raised.value)


def test_ports_that_cannot_be_held_do_not_let_a_paused_one_run_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would change the disk that it goes on with later, from a memory that knows nothing of that."""
    log: list[str] = []

    def full(listener: socket.socket) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    with OpenPorts([HostForward(0, 80)]) as ports:
        (listener,) = [one for port in ports._open.values() for one in port.listeners][:1]
        parts: list[Any] = [world.pauser._guest, ports, *[None] * 4, world.pauser, None, {}]
        ends = Ends(*parts)
        monkeypatch.setattr(socket.socket, "dup", full)
        world.pause()
        assert world.machine.said == ["stands still", "saves"] and world.pauser.paused.is_set()
        assert world.left() == ["paused"] and listener.fileno() == -1, "nobody connects to it in vain"
        asyncio.run(ends._start_waker(log.append))
    assert log == ["nobody listens on its ports while it is paused: [Errno 24] Too many open files"]


def test_a_disk_without_room_is_seen_before_the_machine_stands_still(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspension, "ROOM", 1 << 60)
    with pytest.raises(VmmError, match="are free"):
        world.pause()
    assert world.machine.said == [] and world.left() == []


def test_a_pause_that_is_given_up_lets_it_run_on(tmp_path: Path) -> None:
    world = World(tmp_path, FakeMachine())

    async def scenario() -> None:
        reached, never = asyncio.Event(), asyncio.Event()

        async def hang(state: Path) -> None:
            reached.set()
            await never.wait()

        world.machine.save = hang  # type: ignore[method-assign]
        task = asyncio.create_task(world.pauser.pause())
        await reached.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert world.machine.said == ["stands still"], "QEMU is not told to go on while it saves"
        never.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert world.machine.said == ["stands still", "goes on"] and world.left() == []


def test_who_gives_up_a_pause_that_fails_leaves_no_complaint(tmp_path: Path) -> None:
    """As where QEMU ends while it saves: the log has no traceback of a task that nobody waited for."""
    world = World(tmp_path, FakeMachine())
    complaints: list[object] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        reached, ended = asyncio.Event(), asyncio.Event()

        async def fail(state: Path) -> None:
            reached.set()
            await ended.wait()
            raise VmmError("QEMU was gone before it answered stop")

        world.machine.save = fail  # type: ignore[method-assign]
        task = asyncio.create_task(world.pauser.pause())
        await reached.wait()
        task.cancel()
        await asyncio.sleep(0)
        ended.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()

    asyncio.run(scenario())
    assert complaints == []


def test_a_slow_disk_keeps_nobody_else_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the disk does so in a thread: the supervisor of a sandbox that runs has others to answer."""
    threads: list[object] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        threads.append(threading.current_thread())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    world.pause()
    assert len(threads) >= 5 and threading.main_thread() not in threads


def test_two_at_once_and_a_change_meanwhile_are_refused(world: World) -> None:
    async def scenario() -> None:
        async with world.adjuster.busy:
            await world.pauser.pause()

    with pytest.raises(EngineError, match="just now"):
        asyncio.run(scenario())
    assert world.machine.said == []


def test_going_on_denies_first_and_is_paused_no_more(world: World) -> None:
    world.pause()
    resumption, seen = Resumption(world.paths), []

    async def scenario() -> None:
        served = asyncio.get_running_loop().create_future()
        going_on = resumption.prepare(dataclasses.replace(LAUNCH, mounts=(cast("Any", None),)), served)
        assert [(mount.tag, mount.slot) for mount in going_on.mounts] == [("mount0", 0)]
        assert going_on.authority is not None and going_on.authority.certificate == world.authority.certificate
        assert world.paths.paused.directory.is_dir() and not resumption.has_begun

        def set_temporary(rules: Any) -> None:
            assert world.paths.paused.directory.is_dir(), "it is paused still"
            seen.extend(rule.host for rule in rules)

        gateway = SimpleNamespace(accept_temporary=lambda: None, set_temporary=set_temporary)
        going_on.before_it_runs(cast("Any", gateway))
        assert seen == ["bad.example"], "the other one's time is over"
        assert resumption.has_begun and not world.paths.paused.directory.exists()
        held, warned = list[SaidBefore](), list[str]()

        async def hold_again(said: list[SaidBefore]) -> None:
            held.extend(said)
            raise EngineError("no authority")

        await resumption.finish(cast("Any", SimpleNamespace(hold_again=hold_again)), warned.append)
        assert held == world.said and world.left() == []
        assert warned == ["what was allowed for the time being does not hold any more: no authority"]

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["temporary.json", "authority.pem"])
def test_what_cannot_be_read_stays_paused(world: World, name: str) -> None:
    world.pause()
    (world.paths.paused.directory / name).write_text("nonsense")

    async def scenario() -> None:
        with pytest.raises(EngineError, match="cannot be read"):
            Resumption(world.paths).prepare(LAUNCH, asyncio.get_running_loop().create_future())

    asyncio.run(scenario())
    assert world.paths.paused.directory.is_dir()


def test_the_key_of_an_authority_is_written_and_read() -> None:
    one = Authority.create("shop")
    other = Authority.from_text(one.to_text())
    assert other.certificate == one.certificate and other.to_text() == one.to_text()
    with pytest.raises(ValueError):
        Authority.from_text(json.dumps("nonsense"))
