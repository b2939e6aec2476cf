"""How a sandbox comes up around a guest that answers: mounts, late services, health and ports, and how it goes down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from fake_guest import Answer, Asked, FakeGuest

from engine.errors import EngineError
from engine.guest.guest import Guest
from engine.guest.identity import Identity
from engine.resolve.host_ports import pick_port
from engine.secrets.redaction import redact_held
from engine.state.instance_paths import InstancePaths, KeptPaths
from engine.state.layout import Layout
from engine.supervisor import begun_mounts
from engine.supervisor.__main__ import RunningSandbox, start_sandbox
from engine.supervisor.events import Events
from engine.supervisor.launch import Launch
from engine.supervisor.pausing import Resumption
from engine.workspaces.mount_point import MountPoint
from vmm.channel.errors import GuestError
from vmm.errors import VmmError
from vmm.spec import HostForward

HOME = sys.modules[start_sandbox.__module__]
MOUNTS = (MountPoint("/src", "/workspace", False, ("Sandboxfile.yaml",)), MountPoint("/data", "/data", True))


class World:
    """Machine, gateway and file servers of one start; `said` is what happened to them and to the guest, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.confined = True
        self.begins = True  # QEMU, with the devices of the mounts
        self.server_error: VmmError | None = None
        self.unnamed: list[tuple[str, int]] = []
        self.prepare: Callable[[FakeGuest], None] = lambda guest: None
        self.guest = cast("FakeGuest", None)
        self.shared: list[Any] = []
        self.told: list[bool] = []
        self.proxies: Any = None

    # the machine

    async def stand_still(self) -> None:
        self.said.append("stands still")

    async def run(self) -> None:
        self.said.append("goes on")

    async def plug_mount(self, tag: str, index: int, socket: Path) -> None:
        self.said.append(f"plug {tag} at {socket.name}")

    # the gateway

    def take_unnamed(self) -> list[tuple[str, int]]:
        found, self.unnamed = self.unnamed, []
        return found

    # what stands in for the parts that need a real machine

    @contextlib.asynccontextmanager
    async def begin_guest(self, base: object, **options: Any) -> AsyncIterator[Guest]:
        options["on_step"]("restoring the machine")
        self.proxies = options["proxies"]
        async with FakeGuest() as channel:
            self.guest = channel
            channel.answer_call("mount", self._mounted)
            self.prepare(channel)
            try:
                ready = asyncio.ensure_future(asyncio.sleep(0))
                yield Guest(cast("Any", self), channel, cast("Any", self), -1, ready)
            finally:
                self.said.append("the machine is down")

    def _mounted(self, asked: Asked) -> dict[str, Any]:
        self.said.append(f"mount {asked.request['tag']} {asked.request['target']} ro={asked.request['ro']}")
        return {}

    @contextlib.asynccontextmanager
    async def serve_directory(
        self, shared: Any, socket: Path, lost: object, on_change: object, on_room: object, on_begin: Callable[[], None]
    ) -> AsyncIterator[bool]:
        if self.server_error:
            raise self.server_error
        self.said.append(f"serve {shared.source}")
        if self.begins:
            on_begin()
        self.shared.append(shared)
        self.told.append(on_change is not None)
        try:
            yield self.confined
        finally:
            self.said.append(f"serve {shared.source} no more")


class Told(Events):
    """Events that nobody is told of but the world."""

    def __init__(self, world: World) -> None:
        super().__init__(cast("asyncio.StreamWriter", None))
        self._world = world

    def send(self, event: str, **fields: Any) -> None:
        self._world.events.append((event, fields))

    def line(self, text: str) -> None:
        self._world.events.append(("line", {"text": text}))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(HOME, "begin_guest", world.begin_guest)
    monkeypatch.setattr(HOME, "begin_machine", lambda launch, paths: contextlib.nullcontext())
    monkeypatch.setattr(HOME, "serve_directory", world.serve_directory)
    monkeypatch.setattr(HOME, "keep_room", lambda *options: asyncio.sleep(0))
    monkeypatch.setattr(HOME, "load_snapshot", lambda path: path)
    monkeypatch.setattr(Launch, "base", lambda self: None)
    return world


def launch(**changes: Any) -> Launch:
    values: dict[str, Any] = {
        "name": "shop",
        "roots": {},
        "toolchain": "/t",
        "root": "/r",
        "initrd": "/i",
        "shape": None,
        "snapshot": "/s",
        "mounts": (),
        "rules": (),
        "forwards": (),
        "identity": Identity("shop"),
        "services": (),
        "late": (),
        "project_name": "shop",
        "compose": None,
    }
    return Launch(**{**values, **changes})


def start(world: World, launch: Launch, look: Callable[[RunningSandbox], object] = lambda sandbox: None) -> None:
    """Starts the sandbox, calls `look` while it is up, and ends it. Raises what the start raises."""

    async def body() -> None:
        async with start_sandbox(launch, paths(), Told(world)) as sandbox:
            world.said.append("up")
            look(sandbox)

    asyncio.run(body())


def paths() -> InstancePaths:
    found = Layout.from_environment(os.environ).instance("shop")
    for directory in (found.journal.parent, found.sockets.directory.parent):
        directory.mkdir(parents=True, exist_ok=True)
    return found


def steps(world: World) -> list[str]:
    return [fields["title"] for event, fields in world.events if event == "step"]


def test_with_nothing_but_a_machine_nothing_is_asked_of_the_guest(world: World) -> None:
    start(world, launch())
    assert world.guest.asked == [] and steps(world) == ["restoring the machine"]
    assert world.said == ["up", "the machine is down"]


def test_mounts_are_served_plugged_and_mounted_in_order(world: World) -> None:
    start(world, launch(mounts=MOUNTS))
    said = [line for line in world.said if not line.startswith("serve")]
    sockets = [paths().sockets.mount(index).name for index in range(2)]
    assert said == [
        f"plug mount0 at {sockets[0]}",
        f"plug mount1 at {sockets[1]}",
        "mount mount0 /workspace ro=False",
        "mount mount1 /data ro=True",
        "up",
        "the machine is down",
    ]
    assert world.said.index("serve /data") < world.said.index(said[0]), "nothing is plugged before all are served"
    assert world.said[-2:] == ["serve /data no more", "serve /src no more"], "the machine goes before its file servers"
    assert [(one.read_only, one.protected) for one in world.shared] == [(False, ("Sandboxfile.yaml",)), (True, ())]
    assert steps(world) == ["restoring the machine", "mounting"]
    assert world.told == [True, False], "on a read-only mount the guest cannot be told of changes"


def test_a_clone_is_there_with_services_that_are_as_they_were(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also sick ones: what was so in its source keeps nobody from having the clone."""
    sick = {"ready": False, "services": {"web": {"state": "running", "health": "unhealthy"}}}
    world.prepare = lambda guest: guest.answer_call("health", sick)
    monkeypatch.setattr(Resumption, "prepare", lambda self, launch, served: None)
    found: list[dict[str, Any]] = []

    async def body() -> None:
        cloned = Resumption(paths(), KeptPaths(tmp_path))
        wanted = launch(services=("web",))
        async with start_sandbox(wanted, paths(), Told(world), resumption=cloned) as sandbox:
            found.extend(sandbox.services)

    asyncio.run(body())
    assert [(row["name"], row["health"]) for row in found] == [("web", "unhealthy")]
    assert steps(world) == ["restoring the machine", "checking the health of services"]


def test_what_is_local_is_laid_aside_before_its_mount_and_brought_back_after(world: World) -> None:
    start(world, launch(mounts=(MountPoint("/src", "/workspace", False, local=("node_modules", "a/b c")), MOUNTS[1])))
    assert [asked.op for asked in world.guest.asked] == ["exec", "mount", "exec", "mount"]
    aside, _, back, _ = world.guest.asked
    assert aside.argv[-2:] == ["/workspace", "/run/sandbox/aside/0"] and "--make-private" in aside.argv[2]
    assert back.argv[-4:] == ["/run/sandbox/aside/0", "/workspace", "node_modules", "a/b c"]
    assert [shared.mount_points for shared in world.shared] == [("node_modules", "a/b c"), ()]


def test_a_file_is_shared_alone_and_bound_where_it_belongs(world: World) -> None:
    file = MountPoint("/src/a*.toml", "/etc/app.toml", False, is_file=True)
    start(world, launch(mounts=(MOUNTS[1], file)))
    shared = world.shared[1]
    assert (str(shared.source), shared.file, len(shared.hidden)) == ("/src", "a*.toml", 2)
    _, mount, bind = world.guest.asked
    assert mount.request["target"] == "/run/sandbox/aside/1"
    assert bind.argv[-3:] == ["/run/sandbox/aside/1", "a*.toml", "/etc/app.toml"]


def test_what_cannot_be_brought_back_ends_the_start(world: World) -> None:
    world.prepare = lambda guest: guest.answer("umount", Answer(1, stderr=b"no such file\n"))
    with pytest.raises(GuestError, match="node_modules of /workspace cannot stay on the guest's own disk") as caught:
        start(world, launch(mounts=(MountPoint("/src", "/workspace", False, local=("node_modules",)),)))
    assert caught.value.details == "no such file" and world.said[-1] == "serve /src no more"


def test_an_unconfined_file_server_is_told(world: World) -> None:
    world.confined = False
    start(world, launch(mounts=MOUNTS[:1], unconfined_mounts=True))
    ((_, warning),) = [one for one in world.events if one[0] == "warning"]
    assert "nothing confines the file server of /src" in warning["text"]


def test_late_services_start_after_the_mounts_and_before_the_look_at_all(world: World) -> None:
    world.prepare = lambda guest: guest.answer(" up ", Answer(0, b"Container late Started\n"))
    seen: list[Any] = []
    wanted = launch(mounts=MOUNTS[:1], services=("web", "late"), late=("late",), compose='{"name": "shop"}')
    start(world, wanted, lambda sandbox: seen.extend(sandbox.services))
    assert [asked.op for asked in world.guest.asked] == ["mount", "exec", "exec", "health"]
    write, up = world.guest.asked[1:3]
    assert bytes(write.stdin) == b'{"name": "shop"}\n'
    assert up.argv[-2:] == ["--wait", "late"]
    assert world.guest.asked[3].request["services"] == ["web", "late"]
    assert seen == [{"name": name, "state": "running", "health": None} for name in ("web", "late")]
    assert ("line", {"text": "Container late Started"}) in world.events
    assert steps(world)[1:] == ["mounting", "starting late", "checking the health of services"]


def test_services_of_the_snapshot_are_only_looked_at(world: World) -> None:
    start(world, launch(services=("web",)))
    assert [asked.op for asked in world.guest.asked] == ["health"]


SICK = {"ready": False, "services": {"late": {"state": "exited"}}}
FAILURES: dict[str, tuple[Callable[[FakeGuest], None], type[Exception]]] = {
    "cannot mount mount0": (lambda guest: guest.answer_call("mount", GuestError("cannot mount mount0")), GuestError),
    "starting services failed with code 1": (lambda guest: guest.answer(" up ", Answer(1)), EngineError),
    "services are not healthy": (lambda guest: guest.answer_call("health", SICK), EngineError),
    "the guest is gone": (lambda guest: guest.die(), GuestError),
}


@pytest.mark.parametrize("brief", FAILURES)
def test_a_failure_takes_down_what_was_up(world: World, brief: str) -> None:
    world.prepare, error = FAILURES[brief]
    with pytest.raises(error, match=brief):
        start(world, launch(mounts=MOUNTS[:1], services=("late",), late=("late",), compose="{}"))
    assert "up" not in world.said
    assert world.said[-2:] == ["the machine is down", "serve /src no more"]
    assert not paths().sockets.directory.exists()


def test_a_file_server_that_does_not_start(world: World) -> None:
    world.server_error = VmmError("the file server of /src did not start")
    with pytest.raises(VmmError, match="did not start"):
        start(world, launch(mounts=MOUNTS))
    assert world.said == ["the machine is down"] and world.guest.asked == []


def test_late_services_that_were_refused_a_host_are_told_how_to_allow_it(world: World) -> None:
    def refuse(asked: Asked) -> Answer:
        world.unnamed.append(("db.example.com", 443))
        return Answer(1)

    world.prepare = lambda guest: guest.answer(" up ", refuse)
    with pytest.raises(EngineError) as caught:
        start(world, launch(services=("late",), late=("late",), compose="{}"))
    assert "sandbox add endpoint db.example.com" in (caught.value.hint or "")


def test_ports_open_when_all_is_ready_and_close_before_the_machine_goes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ports:
        def __init__(self, forwards: tuple[HostForward, ...], held: object) -> None:
            self.forwards = forwards

        def __enter__(self) -> Ports:
            world.said.append(f"take {[forward.host_port for forward in self.forwards]}")
            return self

        def __exit__(self, *_: object) -> None:
            world.said.append("given back")

        @contextlib.asynccontextmanager
        async def serving(self, channel: object) -> AsyncIterator[None]:
            assert channel is world.guest
            world.said.append("open")
            yield
            world.said.append("closed")

    monkeypatch.setattr(HOME, "OpenPorts", Ports)
    start(world, launch(forwards=(HostForward(8080, 80),), services=("web",)))
    assert world.said == ["take [8080]", "open", "up", "closed", "the machine is down", "given back"]
    with pytest.raises(GuestError):
        world.prepare = lambda guest: guest.answer_call("health", GuestError("no Docker"))
        start(world, launch(forwards=(HostForward(8080, 80),), services=("web",)))
    assert world.said.count("open") == 1, "nothing is served of what is not ready"
    assert world.said[-1] == "given back"


def test_the_hosts_proxies_are_the_gateways_and_their_passwords_nobodys(world: World) -> None:
    password = "s3cret-of-the-proxy"
    port = pick_port()
    proxies = {"https": f"http://me:{password}@localhost:{port}", "no": "corp.example"}

    def look(sandbox: RunningSandbox) -> None:
        proxy = world.proxies.of("a.example.com", "tls")
        assert (proxy.host, proxy.port, proxy.password) == ("localhost", port, password)
        assert world.proxies.of("a.corp.example", "tls") is None
        assert set(world.proxies._own_ports()) == {port}, "what is published now, also after a change"
        assert password not in redact_held(f"curl: {password}")

    start(world, launch(proxies=proxies, forwards=(HostForward(port, 80),)), look)
    assert password not in str(world.events)


def test_a_mount_that_qemu_does_not_begin_with_is_no_mount(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest's kernel has mounted it, and whoever looked into it would wait for ever."""
    monkeypatch.setattr(begun_mounts, "hello_s", lambda: 0.05)
    world.begins = False
    with pytest.raises(EngineError, match="QEMU did not begin with the mount /workspace"):
        start(world, launch(mounts=MOUNTS))
    assert world.said.count("goes on") == begun_mounts.TRIES and "the machine is down" in world.said
