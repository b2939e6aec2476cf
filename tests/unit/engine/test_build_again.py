"""What changes while it is copied is built again under its new key, and never kept under the old one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from engine.build import blueprint as up
from engine.build.blueprint import Project
from engine.build.chain import Chain
from engine.build.foundation import GUEST_NEEDS
from engine.build.step import Session
from engine.cache.store import Store
from engine.errors import EngineError
from engine.plan.graph import BuildContext, Graph, Node, content_key
from engine.project import sending as copying
from engine.project.pieces import Piece
from engine.project.sending import put_piece
from engine.project.tree import ATTEMPTS, ContentChanged, ProjectTree
from engine.state.layout import Layout
from sandboxfile import parse
from vmm.channel.guest import GuestChannel
from vmm.walk import Found, TreeChanged

from test_scheduler import Recorder  # isort: skip


class Meddled(Project):
    """A project whose one step copies `input`; `meddle` is called as often as it is copied, before it is read."""

    writes: list[str]

    def verdict(self) -> Any:
        return "known"

    def chain(self) -> Chain:
        tree = self.session.tree
        key = tree.key(Piece("input", "/input"))

        async def nothing(context: BuildContext) -> None: ...

        async def copy(context: BuildContext) -> None:
            if self.writes:
                (self.loaded.project / "input").write_text(self.writes.pop(0))
            await put_piece(cast("GuestChannel", None), tree, Piece("input", str(context.directory / "input"), key))

        base = [Node(name, name, name, content_key(name), build=nothing) for name in GUEST_NEEDS]
        setup = Node("setup", "setup", "setup", content_key("setup", key), GUEST_NEEDS, {"input": key}, copy)
        return Chain(Graph([*base, setup]), "setup")


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
    layout = Layout.from_environment(os.environ)
    project = Meddled(loaded, layout, Store(layout), Session(layout, loaded))
    project.writes = []
    return project


def cached(project: Meddled) -> dict[str, str]:
    """The content of every finished entry of the step, by what its key was made of."""
    entries = [entry for entry in project.store.entries() if entry.kind == "setup"]
    return {entry.inputs["input"]: (entry.path / "input").read_text() for entry in entries}


def keys(project: Meddled, *contents: str) -> dict[str, str]:
    """The same for a cache that holds just these."""
    found = {}
    for content in contents:
        (project.loaded.project / "input").write_text(content)
        found[project.session.tree.key(Piece("input", "/input"))] = content
    return found


def test_the_cache_never_holds_other_bytes_than_its_key_says(project: Meddled) -> None:
    project.writes = ["EVIL"]
    recorder = Recorder()
    built = asyncio.run(up.build(project, recorder))
    assert (built.entries["setup"] / "input").read_text() == "EVIL", "what is there now is what is built"
    assert recorder.of("note") == [("input changed while it was copied: building again with what is there now",)]
    assert cached(project) == keys(project, "EVIL")
    (project.loaded.project / "input").write_text("clean")
    built = asyncio.run(up.build(project, Recorder()))
    assert (built.entries["setup"] / "input").read_text() == "clean"
    assert cached(project) == keys(project, "EVIL", "clean")


def test_what_keeps_changing_is_named_in_the_end(project: Meddled) -> None:
    project.writes = [str(number) for number in range(10)]
    recorder = Recorder()
    with pytest.raises(EngineError, match="input keeps changing while it is copied") as caught:
        asyncio.run(up.build(project, recorder))
    assert "stop what writes there" in (caught.value.hint or "")
    assert len(recorder.of("note")) == ATTEMPTS - 1 and len(project.writes) == 10 - ATTEMPTS
    assert cached(project) == {}


def test_other_failures_are_not_tried_again(project: Meddled, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*args: object) -> None:
        raise EngineError("tar failed")

    monkeypatch.setattr(copying, "send_tree", fail)
    recorder = Recorder()
    with pytest.raises(EngineError, match="tar failed"):
        asyncio.run(up.build(project, recorder))
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
