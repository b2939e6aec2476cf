"""What changes while it is copied is built again under its new key, and never kept under the old one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from engine.build import blueprint as blueprints
from engine.build.blueprint import Blueprint, build
from engine.build.chain import Chain
from engine.build.context import BuildContext
from engine.build.foundation import GUEST_NEEDS
from engine.cache.store import Store
from engine.errors import EngineError
from engine.plan.graph import Graph, Node
from engine.project import sending as copying
from engine.project.pieces import Piece
from engine.project.sending import put_piece
from engine.project.tree import ATTEMPTS, ContentChanged, ProjectTree, opened
from engine.state.keys import content_key
from engine.state.layout import Layout
from sandboxfile import Loaded, parse
from vmm.channel.guest import GuestChannel
from vmm.snapshot import Shape
from vmm.walk import Found, TreeChanged

from test_scheduler import Recorder  # isort: skip


@dataclass(frozen=True)
class Nothing:
    async def build(self, context: BuildContext, /) -> None: ...


@dataclass
class Copying:
    """Copies `input`; the next of `writes` is written there as often as it is copied, before it is read."""

    key: str
    writes: list[str]

    async def build(self, context: BuildContext, /) -> None:
        if self.writes:
            (context.tree.path / "input").write_text(self.writes.pop(0))
        await put_piece(
            cast("GuestChannel", None), context.tree, Piece("input", str(context.directory / "input"), self.key)
        )


@dataclass
class Meddled:
    """A project whose one step copies `input`; `writes` is what is written there meanwhile."""

    loaded: Loaded
    layout: Layout
    writes: list[str] = field(default_factory=list)

    @property
    def tree(self) -> ProjectTree:
        return opened(self.loaded.project)

    def chain(self, *parts: object) -> Chain:
        key = self.tree.key(Piece("input", "/input"))
        base = [Node(name, name, name, content_key(name), work=Nothing()) for name in GUEST_NEEDS]
        work = Copying(key, self.writes)
        setup = Node("setup", "setup", "setup", content_key("setup", key), GUEST_NEEDS, {"input": key}, work)
        return Chain(Graph([*base, setup]), "setup", Shape("tcg", 1, 1, "10"))

    def build(self, reporter: Recorder) -> Path:
        """The entry of the step."""
        blueprint = Blueprint.of(self.loaded, self.layout)
        return asyncio.run(build(blueprint, reporter)).entries["setup"]


async def send(channel: object, entries: Iterable[Found], parent: str, name: str) -> None:
    for found in entries:
        if found.content is not None:
            (Path(parent) / name).write_bytes(found.content.read())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meddled:
    monkeypatch.setattr(copying, "send_tree", send)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/input").write_text("clean")
    loaded = parse('version: "1"\n', tmp_path / "src/Sandboxfile.yaml")
    project = Meddled(loaded, Layout.from_environment(os.environ))
    monkeypatch.setattr(blueprints, "make_chain", project.chain)
    monkeypatch.setattr(blueprints, "load_verdict", lambda store: "known")
    return project


def cached(project: Meddled) -> dict[str, str]:
    """The content of every finished entry of the step, by what its key was made of."""
    entries = [entry for entry in Store(project.layout).entries() if entry.kind == "setup"]
    return {entry.inputs["input"]: (entry.path / "input").read_text() for entry in entries}


def keys(project: Meddled, *contents: str) -> dict[str, str]:
    """The same for a cache that holds just these."""
    found = {}
    for content in contents:
        (project.loaded.project / "input").write_text(content)
        found[project.tree.key(Piece("input", "/input"))] = content
    return found


def test_the_cache_never_holds_other_bytes_than_its_key_says(project: Meddled) -> None:
    project.writes = ["EVIL"]
    recorder = Recorder()
    assert (project.build(recorder) / "input").read_text() == "EVIL", "what is there now is what is built"
    assert recorder.of("note") == [("input changed while it was copied: building again with what is there now",)]
    assert cached(project) == keys(project, "EVIL")
    (project.loaded.project / "input").write_text("clean")
    assert (project.build(Recorder()) / "input").read_text() == "clean"
    assert cached(project) == keys(project, "EVIL", "clean")


def test_what_keeps_changing_is_named_in_the_end(project: Meddled) -> None:
    project.writes = [str(number) for number in range(10)]
    recorder = Recorder()
    with pytest.raises(EngineError, match="input keeps changing while it is copied") as caught:
        project.build(recorder)
    assert "stop what writes there" in (caught.value.hint or "")
    assert len(recorder.of("note")) == ATTEMPTS - 1 and len(project.writes) == 10 - ATTEMPTS
    assert cached(project) == {}


def test_other_failures_are_not_tried_again(project: Meddled, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*args: object) -> None:
        raise EngineError("tar failed")

    monkeypatch.setattr(copying, "send_tree", fail)
    recorder = Recorder()
    with pytest.raises(EngineError, match="tar failed"):
        project.build(recorder)
    assert recorder.of("note") == []


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_what_goes_away_while_it_is_copied_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "f").write_text("x")

    async def cut(*args: object) -> None:
        raise TreeChanged("f")

    with ProjectTree.open(tmp_path) as tree:
        piece = Piece("f", "/f", tree.key(Piece("f", "/f")))
        monkeypatch.setattr(copying, "send_tree", send if how == "gone" else cut)
        (tmp_path / "f").unlink()
        with pytest.raises(ContentChanged):
            asyncio.run(put_piece(cast("GuestChannel", None), tree, piece))
