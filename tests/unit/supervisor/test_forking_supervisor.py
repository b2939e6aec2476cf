"""A supervisor that forks its sandbox: what it refuses, what it writes, and what it tidies up."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from disk_headers import qcow2

from engine.errors import EngineError
from engine.gateway.authority import Authority
from engine.gateway.rules import Rule
from engine.guest.guest import Guest
from engine.guest.identity import Identity
from engine.secrets.places import SecretPlaces
from engine.secrets.sources import Source
from engine.state.layout import Layout
from engine.supervisor import forking
from engine.supervisor.forking import Forker
from engine.supervisor.launch import Launch
from engine.supervisor.pausing import Resumption
from engine.supervisor.temporary import SaidBefore, TemporaryEndpoint
from vmm.errors import VmmError
from vmm.snapshot import Shape

VALUE = "sk-a-value-that-nobody-else-has"
LAUNCH = Launch(
    name="shop", roots={}, toolchain="/t", root="/r", initrd="/i", shape=Shape("tcg", 2, 1 << 20, "10"), snapshot="/s",
    mounts=(), rules=(), forwards=(), identity=Identity("shop"), services=(), late=(), project_name="shop",
    compose=None, secrets=SecretPlaces({"key": (Source("env", "KEY"),)}, {"KEY": VALUE}, {"key": VALUE}),
)  # fmt: skip
NEW = "a" * 16


class World:
    """One sandbox, who forks it, and a machine that only changes its disk."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = Layout(base / "cache", base / "state", base / "run")
        self.paths, self.new = self.layout.instance("shop"), self.layout.fork(NEW)
        for directory in (self.paths.directory, self.new.directory):
            directory.mkdir(parents=True)
        self.paths.disk.write_bytes(qcow2("/cache/services/key/disk.qcow2") + b"what was written")
        self.network: Any = SimpleNamespace(stream=7)
        self.error: Exception | None = None
        self.changes_disk = self.all_stood_still = True
        self.said = [SaidBefore(TemporaryEndpoint("bad.example", True, (Rule("bad.example", deny=True),)))]
        self.adjuster = SimpleNamespace(
            busy=asyncio.Lock(), revise=lambda launch: replace(launch, rules=(Rule("new.example"),))
        )
        self.gateway = SimpleNamespace(authority=Authority.create("shop"), addresses={"old.example": "10.0.2.101"})
        monkeypatch.setattr(forking, "fork", self._fork)
        monkeypatch.setattr(Launch, "base", lambda launch: SimpleNamespace(tools=None))

    async def _fork(self, machine: Any, template: Any, shape: Any, directory: Path, overlay: Path,
                    on_disk: Callable[[], object], *, needed: int, still: Any) -> Any:  # fmt: skip
        assert directory == self.new.directory and overlay.exists() and needed > 0
        if self.changes_disk:
            on_disk()
        if self.error is not None:
            raise self.error
        return SimpleNamespace(stood_still_s=0.25, all_stood_still=self.all_stood_still)

    def fork(self, launch: Launch = LAUNCH, memory: int | None = None) -> Any:
        machine = SimpleNamespace(spec=SimpleNamespace(network=self.network))
        guest = Guest(cast("Any", machine), cast("Any", None), cast("Any", self.gateway), memory, cast("Any", None), 3)
        temporary = cast("Any", SimpleNamespace(said=self.said))
        forker = Forker(self.layout, launch, guest, cast("Any", self.adjuster), temporary)
        return asyncio.run(forker.handle({"fork": NEW}, cast("Any", None)))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_it_writes_what_it_is_without_a_value_of_a_secret(world: World) -> None:
    disk = world.paths.disk.read_bytes()
    assert world.fork() == {"stood_still_s": 0.25, "all_stood_still": True}
    launch = Launch.from_json(world.new.aside.launch.read_bytes())
    assert launch.rules == (Rule("new.example"),) and launch.addresses == {"old.example": "10.0.2.101"}
    for path in world.new.directory.iterdir():
        assert VALUE.encode() not in path.read_bytes() and path.stat().st_mode & 0o777 == 0o600, path
    layer = world.paths.directory / "layer-1.qcow2"
    assert layer.read_bytes() == disk == world.new.disk.read_bytes()
    assert not layer.samefile(world.new.disk), "QEMU of the source may write into its own layers still"
    assert b"layer-1.qcow2" in world.paths.disk.read_bytes() and not world.paths.next_disk.exists()


def test_it_says_when_not_all_programs_stood_still(world: World) -> None:
    world.all_stood_still = False
    assert world.fork() == {"stood_still_s": 0.25, "all_stood_still": False}


def test_the_layers_of_an_earlier_fork_are_copied_too(world: World) -> None:
    world.fork()
    first = (world.paths.directory / "layer-1.qcow2").read_bytes()
    for path in world.new.directory.iterdir():
        path.unlink()
    world.fork()
    assert b"layer-2.qcow2" in world.paths.disk.read_bytes()
    assert b"layer-1.qcow2" in world.new.disk.read_bytes()
    assert (world.new.directory / "layer-1.qcow2").read_bytes() == first


@pytest.mark.parametrize("error", [VmmError("QEMU refused"), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("changes_disk", [True, False])
def test_what_fails_leaves_the_disk_that_the_machine_has(world: World, error: Exception, changes_disk: bool) -> None:
    disk = world.paths.disk.read_bytes()
    world.error, world.changes_disk = error, changes_disk
    with pytest.raises((VmmError, EngineError)):
        world.fork()
    left = sorted(path.name for path in world.paths.directory.iterdir())
    assert left == (["disk.qcow2", "layer-1.qcow2"] if changes_disk else ["disk.qcow2"])
    assert (world.paths.disk.read_bytes() == disk) is not changes_disk


def test_what_cannot_be_forked_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="live mount"):
        world.fork(memory=5)
    world.network = SimpleNamespace(stream=None)
    with pytest.raises(EngineError, match="user network"):
        world.fork()
    world.network = SimpleNamespace(stream=7)
    monkeypatch.setattr(forking, "LAYERS_MOST", 1)
    with pytest.raises(EngineError, match="forked too often"):
        world.fork()
    monkeypatch.setattr(forking, "LAYERS_MOST", 9)

    async def busy() -> None:
        async with world.adjuster.busy:
            await asyncio.to_thread(world.fork)

    with pytest.raises(EngineError, match="just now"):
        asyncio.run(busy())
    assert [path.name for path in world.paths.directory.iterdir()] == ["disk.qcow2"]


def test_one_that_begins_there_denies_first_and_leaves_the_fork(world: World) -> None:
    """Others begin there, too: it moves and removes nothing. It trusts the authority that its programs trust."""
    world.fork()
    resumption, seen = Resumption(world.layout.instance("shop-2"), world.new.aside), []

    async def scenario() -> None:
        going_on = resumption.prepare(LAUNCH, asyncio.get_running_loop().create_future())
        assert not going_on.stays and going_on.mounts == ()
        assert going_on.authority is not None and going_on.authority.certificate == world.gateway.authority.certificate
        gateway = SimpleNamespace(accept_temporary=lambda: None, set_temporary=lambda rules: seen.extend(rules))
        before = sorted(path.name for path in world.new.directory.iterdir())
        going_on.before_it_runs(cast("Any", gateway))
        assert [rule.host for rule in seen] == ["bad.example"]
        held = list[SaidBefore]()

        async def hold_again(said: list[SaidBefore]) -> None:
            held.extend(said)

        await resumption.finish(cast("Any", SimpleNamespace(hold_again=hold_again)), print)
        assert held == world.said and sorted(path.name for path in world.new.directory.iterdir()) == before
        assert not resumption.has_begun, "what fails has failed: it is not paused"

    asyncio.run(scenario())
