"""Named snapshots: kept as a whole, listed, removed when nobody needs them, and restored only where they fit."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from disk_headers import qcow2

from engine.errors import EngineError
from engine.guest.identity import Identity
from engine.lifecycle import snapshots
from engine.lifecycle.fork import Written
from engine.lifecycle.forks import sweep_forks
from engine.lifecycle.snapshots import list_snapshots, remove_snapshot, start_from, take_snapshot
from engine.state.configuration import Configuration, Running, save_running
from engine.state.instances import Instance, save_instance
from engine.state.layout import Layout
from engine.supervisor.launch import Launch
from sandboxfile import Loaded, load
from vmm.snapshot import Shape
from vmm.spec import HostForward

SHAPE = Shape("tcg", 2, 2 << 30, "toolchain")
TEXT = 'version: "1"\nname: shop\nendpoints: [npm]\nports: ["18080:80"]\n'


class World:
    """A running sandbox, whose supervisor writes files, and a host that starts nothing but says what it would."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = Layout(base / "cache", base / "state", base / "run")
        self.file = base.resolve() / "Sandboxfile.yaml"
        self.file.write_text(TEXT)
        self.shape = SHAPE
        self.started: list[Launch] = []
        self.said: list[dict[str, Any]] = []
        value = self.loaded.sandbox.model_dump(mode="json", by_alias=True)
        self.record = Instance(
            "shop", str(base.resolve()), str(self.file), "key", "2026-01-01T00:00:00+00:00", "running"
        )
        save_instance(self.layout, self.record)
        save_running(self.layout, "shop", Running(Configuration(value, (), {}, {}), (), "/image"))
        self.layout.instance("shop").clone(0).mkdir(parents=True)
        self.launch = Launch(
            name="shop", roots={}, toolchain="/t", root="/r", initrd="/i", shape=SHAPE, snapshot="/s", mounts=(),
            rules=(), forwards=(HostForward(18080, 80),), identity=Identity("shop"), services=(), late=(),
            project_name="shop", compose=None,
        )  # fmt: skip
        monkeypatch.setattr(snapshots, "forkable", lambda layout, name: self.record)
        monkeypatch.setattr(snapshots, "write_fork", self._write)
        monkeypatch.setattr(snapshots, "machine_shape", lambda loaded, verdict: self.shape)
        monkeypatch.setattr(snapshots, "start_there", self._start)
        monkeypatch.setattr(snapshots, "_processor", lambda: "the one processor")

    @property
    def loaded(self) -> Loaded:
        return load(self.file)

    async def _write(self, layout: Layout, name: str, there: Any) -> Written:
        assert (there.clones / "0").is_dir(), "an older base with a newer machine loses nothing; the reverse does"
        there.disk.write_bytes(qcow2("/cache/services/key/disk.qcow2"))
        there.aside.launch.write_text(self.launch.to_json())
        (there.directory / "ram").write_bytes(b"pages")
        there.aside.temporary.write_text(json.dumps(self.said))
        return Written(0.25, all_stood_still=True)

    async def _start(self, layout: Any, record: Any, running: Any, name: str, launching: Any, on_event: Any) -> Any:
        launch = await launching
        assert name == launch.name and running.configuration.sandbox["name"] == "shop" and record == self.record
        self.started.append(launch)
        return record._replace(name=launch.name)

    def take(self, label: str = "tested") -> None:
        kept, written = asyncio.run(take_snapshot(self.layout, "shop", label))
        assert (kept.label, written.stood_still_s) == (label, 0.25)

    def begin(self, label: str = "tested", name: str | None = "try") -> Launch:
        instance, _ = asyncio.run(start_from(self.layout, self.loaded, label, name, print))
        assert instance.name == (name or "shop")
        return self.started[-1]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@contextlib.contextmanager
def refused(words: str) -> Iterator[None]:
    with pytest.raises(EngineError, match=words):
        yield


def test_it_is_kept_listed_and_removed(world: World) -> None:
    world.take()
    kept = world.layout.snapshot("tested")
    assert kept.directory.stat().st_mode & 0o777 == 0o700 and not world.layout.forks.exists()
    sweep_forks(world.layout)
    assert (kept.directory / "ram").read_bytes() == b"pages", "nobody removes it unasked"
    (found,) = list_snapshots(world.layout)
    said = found.to_json()
    assert (said["label"], said["of"], said["file"]) == ("tested", "shop", str(world.file))
    with refused("there is a snapshot called tested"):
        world.take()
    remove_snapshot(world.layout, "tested")
    assert list_snapshots(world.layout) == []
    with refused("there is no snapshot called tested"):
        remove_snapshot(world.layout, "tested")
    with refused("not a name of a snapshot"):
        world.take("../up")


def test_a_sandbox_begins_there_with_a_name_and_ports_of_its_own(world: World) -> None:
    world.take()
    launch = world.begin()
    assert launch.forked and launch.snapshot == str(world.layout.snapshot("tested").directory)
    assert launch.identity.hostname == "try" and (Path(launch.snapshot) / "clones/0").is_dir()
    assert launch.forwards[0].guest_port == 80
    with refused("there is a sandbox called shop"):
        world.begin(name=None)


def test_what_was_allowed_for_now_ends_there_and_what_was_denied_does_not(world: World) -> None:
    """The file may have lost since then what was allowed; it says what one that begins there may reach."""
    world.said = [
        {"endpoint": {"name": name, "deny": name == "bad.example"}} for name in ("saved.example", "bad.example")
    ]
    world.take()
    kept = json.loads(world.layout.snapshot("tested").aside.temporary.read_text())
    assert kept == [world.said[1]]
    world.said = [{"endpoint": {}}]
    with refused("cannot be read"):
        world.take("another")
    assert [kept.label for kept in list_snapshots(world.layout)] == ["tested"]


def test_while_a_sandbox_lies_over_it_it_stays(world: World) -> None:
    world.take()
    disk = world.layout.instance("try").disk
    disk.parent.mkdir(parents=True)
    disk.write_bytes(qcow2(str(world.layout.snapshot("tested").disk)))
    with refused("try began at tested"):
        remove_snapshot(world.layout, "tested")
    disk.unlink()
    with snapshots._used(world.layout.snapshot("tested")), refused("a sandbox that is starting"):
        remove_snapshot(world.layout, "tested")
    remove_snapshot(world.layout, "tested")


def test_one_that_is_started_from_while_the_disks_are_looked_at_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox makes its disk and lets the snapshot go after somebody else's look at the disks."""
    world.take()
    with contextlib.ExitStack() as starting:
        starting.enter_context(snapshots._used(world.layout.snapshot("tested")))

        def looked(layout: Layout) -> list[Path]:
            starting.close()
            return []

        monkeypatch.setattr(snapshots, "disks", looked)
        with refused("a sandbox that is starting"):
            remove_snapshot(world.layout, "tested")


@pytest.mark.parametrize(
    "other",
    [
        replace(SHAPE, qemu="another"),
        replace(SHAPE, cpus=4),
        replace(SHAPE, memory=1 << 30),
        replace(SHAPE, accelerator="kvm"),
    ],
)
def test_another_machine_is_refused(world: World, other: Shape) -> None:
    world.take()
    world.shape = other
    with refused("another QEMU, accelerator, processor or size"):
        world.begin()
    assert world.started == [] and not world.layout.instance("try").directory.exists()


def test_another_processor_counts_where_it_is_not_emulated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.shape = replace(SHAPE, accelerator="kvm")
    world.launch = replace(world.launch, shape=world.shape)
    world.take()
    world.begin()
    monkeypatch.setattr(snapshots, "_processor", lambda: "another")
    with refused("another QEMU, accelerator, processor"):
        world.begin()


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        ("endpoints: [npm]", "endpoints: [pypi]", "endpoints"),
        ("endpoints: [npm]", "endpoints: [npm]\nmachine: {disk: 40GiB}", "machine"),
        ("endpoints: [npm]", 'endpoints: [npm]\nmounts: [".:/workspace"]', "mounts"),
    ],
)
def test_a_file_that_allows_something_else_is_refused(world: World, before: str, after: str, part: str) -> None:
    world.take()
    world.file.write_text(TEXT.replace(before, after))
    with refused(f"has another {part} section"):
        world.begin()
    world.file.write_text(TEXT + "# no more than words\n")
    world.begin()


def test_the_file_of_another_project_is_refused(world: World, tmp_path: Path) -> None:
    world.take()
    other = tmp_path / "other/Sandboxfile.yaml"
    other.parent.mkdir()
    other.write_text(TEXT)
    with refused("a snapshot of another sandbox"):
        asyncio.run(start_from(world.layout, load(other), "tested", "try", print))


def test_a_damaged_one_is_said_and_can_be_removed(world: World) -> None:
    world.take()
    world.layout.snapshot("tested").record.write_text(json.dumps({"name": "shop"}))
    with refused("cannot be read"):
        world.begin()
    assert [kept.record for kept in list_snapshots(world.layout)] == [None]
    remove_snapshot(world.layout, "tested")


def test_the_processor_of_this_host_has_a_name() -> None:
    first = snapshots._processor()
    assert first and first == snapshots._processor()
