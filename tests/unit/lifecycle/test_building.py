"""`build` asks and builds as `up` does, holds what it found, and starts nothing."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.build import blueprint as blueprints
from engine.build.chain import Chain
from engine.build.context import BuildContext
from engine.build.foundation import GUEST_NEEDS
from engine.cache.holds import held_entries, hold_entries
from engine.cache.pruning import Wanted, prune
from engine.cache.store import Store
from engine.errors import EngineError, MachineSilent
from engine.lifecycle.audience import Audience
from engine.lifecycle.building import Ready, agreed_blueprints, build_members
from engine.lifecycle.members import choose_members
from engine.lifecycle.preparation import prepare, start_whole
from engine.plan.graph import Graph, Node
from engine.report.events import EventReporter
from engine.state.keys import content_key
from engine.state.layout import Layout
from sandboxfile import Loaded, SandboxfileError, load
from vmm.snapshot import Shape

from disk_headers import qcow2  # isort: skip

FILE = 'version: "1"\nname: shop\nmounts: [.:/workspace, ~/:/home/agent/host]\n'


@dataclass(frozen=True)
class Writes:
    async def build(self, context: BuildContext, /) -> None:
        (context.directory / "file").write_text("x")


@dataclass
class Person(Audience):
    agrees: bool | None = True
    asked: list[object] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)

    def ask(self, question: object) -> bool | None:
        self.asked.append(question)
        return self.agrees

    def building(self, plan: blueprints.Plan) -> None:
        self.planned += [step.id for step in plan.to_build]


def chain(*parts: object) -> Chain:
    base = [Node(name, name, name, content_key(name), work=Writes()) for name in GUEST_NEEDS]
    step = Node("setup", "setup", "setup", content_key("setup"), GUEST_NEEDS, work=Writes(), requires_entries=True)
    return Chain(Graph([*base, step]), "setup", Shape("tcg", 1, 1, "10"))


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.setattr(blueprints, "make_chain", chain)
    monkeypatch.setattr(blueprints, "load_verdict", lambda store: "known")
    (tmp_path / "project").mkdir()
    (tmp_path / "project/Sandboxfile.yaml").write_text(FILE)
    return load(tmp_path / "project/Sandboxfile.yaml")


def build(loaded: Loaded, layout: Layout, person: Person, *, yes: bool = False) -> Ready:
    members = choose_members(loaded, layout, None, None)
    (ready,) = asyncio.run(build_members(agreed_blueprints(members, layout, person, yes=yes), person))
    return ready


def test_everything_is_built_once_and_nothing_is_started(loaded: Loaded, layout: Layout) -> None:
    person = Person()
    ready = build(loaded, layout, person)
    assert person.planned == [*GUEST_NEEDS, "setup"] and len(person.asked) == 1
    assert ready.built == 6 and set(ready.nodes.values()) == {"built"}
    assert Path(ready.snapshot) == layout.entry("setup", content_key("setup"))
    again = build(loaded, layout, person)
    assert again.built == 0 and set(again.nodes.values()) == {"cached"} and len(person.asked) == 1
    assert json.dumps(again.to_json())
    assert not layout.instances.exists() and held_entries(layout) == {}
    assert prune(Store(layout), Wanted(unused=True)).entries == (), "the project has them"


@pytest.mark.parametrize(("agrees", "code"), [(False, 1), (None, 2)])
def test_nothing_is_built_without_agreement(loaded: Loaded, layout: Layout, agrees: bool | None, code: int) -> None:
    with pytest.raises(EngineError) as caught:
        build(loaded, layout, Person(agrees))
    assert caught.value.exit_code == code and Store(layout).entries() == []
    assert build(loaded, layout, Person(None), yes=True).built == 6


def test_what_this_host_cannot_do_is_said_before_anything_is_built(loaded: Loaded, layout: Layout) -> None:
    loaded.path.write_text(f"{FILE}machine: {{memory: 900TiB}}\n")
    with pytest.raises(SandboxfileError):
        build(load(loaded.path), layout, Person())
    assert Store(layout).entries() == []


def test_what_is_pruned_before_it_is_held_is_built_again(
    loaded: Loaded, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody prunes all between the end of the build and the hold of the one who starts the machine."""
    store, builds = Store(layout), []
    once = blueprints.build

    async def build_and_lose(*parts: object) -> blueprints.Built:
        built = await once(*parts)  # type: ignore[arg-type]
        builds.append(built)
        prune(store, Wanted(every=True))
        return built

    monkeypatch.setattr(blueprints, "build", build_and_lose)

    async def scenario() -> None:
        with hold_entries(layout) as hold:
            blueprint = blueprints.Blueprint.of(loaded, layout)
            built = await prepare(blueprint, EventReporter(lambda event: None), hold)
            assert prune(store, Wanted(every=True)).entries == () and built.snapshot.is_dir()

    asyncio.run(scenario())
    assert len(builds) == 2, "the first build's are held from its end on"


# --- a start that fails


LOOKING = "reading what it was started from, which may be damaged"


def start_twice(
    loaded: Loaded,
    layout: Layout,
    damage: Callable[[Path], None],
    *,
    kind: type[EngineError] = EngineError,
    fails: int = 1,
) -> tuple[list[Path], list[str]]:
    """A start that `fails` so often, after `damage` to its snapshot: what each start was from, and what was said."""
    starts, notes = [], []

    async def scenario() -> None:
        async def start(built: blueprints.Built) -> None:
            starts.append(built.snapshot)
            if len(starts) <= fails:
                damage(built.snapshot / "file")
                raise kind("the guest did not come up: nothing answered in the guest within 20 s")

        with hold_entries(layout) as hold:
            reporter = EventReporter(lambda event: notes.append(event["text"]) if event["event"] == "note" else None)
            built = await prepare(blueprints.Blueprint.of(loaded, layout), reporter, hold)
            await start_whole(built, reporter, hold, start)

    asyncio.run(scenario())
    return starts, notes


def flip(path: Path) -> None:
    """As a failing disk does."""
    status = path.stat()
    path.write_text("y")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_start_from_damaged_bytes_is_said_and_tried_again_from_new_ones(loaded: Loaded, layout: Layout) -> None:
    starts, notes = start_twice(loaded, layout, flip)
    assert len(starts) == 2 and (starts[1] / "file").read_text() == "x"
    assert notes == [
        LOOKING,
        "damaged in the cache, and built again: setup (file has other bytes than it was made with)",
    ]


def test_a_start_that_fails_for_another_reason_fails_once(loaded: Loaded, layout: Layout) -> None:
    with pytest.raises(EngineError, match="nothing answered"):
        start_twice(loaded, layout, lambda path: None)


def test_a_machine_that_does_not_answer_is_started_once_more(loaded: Loaded, layout: Layout) -> None:
    starts, notes = start_twice(loaded, layout, lambda path: None, kind=MachineSilent)
    assert len(starts) == 2 and starts[0] == starts[1]
    assert notes == [LOOKING, "nothing of it is damaged, but its machine did not answer: starting it once more"]
    with pytest.raises(MachineSilent, match="nothing answered"):
        start_twice(loaded, layout, lambda path: None, kind=MachineSilent, fails=2)


def test_the_ground_of_another_sandbox_is_not_taken_away(loaded: Loaded, layout: Layout) -> None:
    """Its disk would be garbage on the bytes that take the place of these."""
    build(loaded, layout, Person())
    entry = layout.entry("setup", content_key("setup"))
    disk = layout.instance("other").disk
    disk.parent.mkdir(parents=True)
    disk.write_bytes(qcow2(str(entry / "disk.qcow2")))
    with pytest.raises(EngineError, match="nothing answered"):
        start_twice(loaded, layout, flip)
    (entry / "file").write_text("longer")
    with pytest.raises(EngineError) as caught:
        build(loaded, layout, Person())
    assert "the disk of other stands on what it was" in caught.value.brief and (entry / "file").exists()
    disk.unlink()
    assert build(loaded, layout, Person()).built == 1
