"""One `up` decides once: it makes one chain, hashes each tree once, and carries out what it printed."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.build import blueprint as blueprints
from engine.build.accelerator import Verdict
from engine.build.blueprint import Built
from engine.lifecycle import preparation, start
from engine.lifecycle.audience import Audience, Replacement
from engine.lifecycle.intent import Wishes
from engine.lifecycle.members import choose_members
from engine.lifecycle.outcome import Outcome
from engine.lifecycle.up import agreed, carry_out
from engine.plan.build_plan import Plan
from engine.plan.graph import Graph
from engine.project.pieces import Piece
from engine.project.tree import ProjectTree
from engine.state import instances
from engine.state.configuration import Running, save_running
from engine.state.instances import Instance, Listed
from engine.state.layout import Layout
from sandboxfile import Loaded, load

FILE = """
version: "1"
name: shop
setup: [{run: make, inputs: [src]}]
services:
  web: {build: ./web}
  db: {image: "db:1", env_file: [db.env]}
"""


class Hears(Audience):
    """Remembers the plan that it was shown."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.ups: list[Outcome] = []
        self.asked: list[object] = []

    def ask(self, question: object) -> bool:
        self.asked.append(question)
        return True

    def building(self, plan: Plan) -> None:
        self.plans.append(plan)

    def is_up(self, outcome: Outcome) -> None:
        self.ups.append(outcome)


class Counted:
    """What an `up` did of what takes long."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.chains = 0
        self.hashed: Counter[str] = Counter()
        self.carried_out: list[Plan] = []
        make_chain, key = blueprints.make_chain, ProjectTree.key

        def count_chain(*parts: Any) -> Any:
            self.chains += 1
            return make_chain(*parts)

        def count_key(tree: ProjectTree, piece: Piece) -> str:
            self.hashed[piece.path] += 1
            return key(tree, piece)

        async def execute(graph: Graph, plan: Plan, *parts: Any) -> dict[str, Path]:
            self.carried_out.append(plan)
            return {id: Path("/nowhere") for id in graph.nodes}

        async def started(built: Built, name: str, on_event: Any, **options: Any) -> start.Started:
            loaded = built.blueprint.loaded
            return start.Started(record(loaded), 0.0)

        patch.setattr(blueprints, "make_chain", count_chain)
        patch.setattr(ProjectTree, "key", count_key)
        patch.setattr(blueprints, "execute", execute)
        patch.setattr(blueprints, "load_verdict", lambda store: Verdict("tcg", ()))
        patch.setattr(start, "start", started)
        patch.setattr(preparation, "_is_whole", lambda built: True)


def record(loaded: Loaded) -> Instance:
    return Instance("shop", str(loaded.project), str(loaded.path), "key", "2026-01-01T00:00:00+00:00", "running")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    for name in ("src/a", "web/Dockerfile", "db.env"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("X=1\n")
    (tmp_path / "Sandboxfile.yaml").write_text(FILE)
    return load(tmp_path / "Sandboxfile.yaml")


def bring_up(loaded: Loaded, layout: Layout, **wishes: Any) -> Hears:
    hears = Hears()
    with agreed(choose_members(loaded, layout, None, None), layout, Wishes(**wishes), hears) as agreement:
        asyncio.run(carry_out(agreement, hears))
    return hears


ONCE = {"src": 1, "web": 1, "db.env": 1}


def test_what_is_printed_is_what_is_carried_out(loaded: Loaded, counted: Counted) -> None:
    hears = bring_up(loaded, Layout.from_environment(os.environ))
    assert counted.chains == 1 and counted.hashed == ONCE
    (printed,), (carried_out,) = hears.plans, counted.carried_out
    assert printed is carried_out
    assert [outcome.how for outcome in hears.ups] == ["started"]


@pytest.mark.parametrize(("memory", "how"), [("2GiB", "unchanged"), ("3GiB", "replaced")])
def test_so_does_one_that_finds_a_sandbox_running(
    loaded: Loaded, counted: Counted, monkeypatch: pytest.MonkeyPatch, memory: str, how: str
) -> None:
    layout = Layout.from_environment(os.environ)
    configuration = blueprints.Blueprint.of(loaded, layout).configuration
    save_running(layout, "shop", Running(configuration, (80, 443), "/nowhere"))
    loaded.path.write_text(f"{FILE}machine: {{memory: {memory}}}\n")
    running = Listed("shop", "running", "running", record(loaded))
    monkeypatch.setattr(instances, "look_up", lambda *parts: running)
    monkeypatch.setattr("engine.lifecycle.down.take_down", taken_down)
    counted.chains, counted.hashed = 0, Counter()
    hears = bring_up(load(loaded.path), layout)
    assert [outcome.how for outcome in hears.ups] == [how]
    assert counted.chains == 1 and counted.hashed == ONCE
    assert hears.plans == counted.carried_out and len(hears.plans) == (how == "replaced")


def test_a_machine_that_is_replaced_on_demand_is_said_to_be(
    loaded: Loaded, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever has changed, and without a question about it."""
    running = Listed("shop", "running", "running", record(loaded))
    monkeypatch.setattr(instances, "look_up", lambda *parts: running)
    monkeypatch.setattr("engine.lifecycle.down.take_down", taken_down)
    hears = bring_up(loaded, Layout.from_environment(os.environ), recreate=True)
    assert [outcome.how for outcome in hears.ups] == ["replaced"]
    assert not any(isinstance(question, Replacement) for question in hears.asked)
    assert counted.chains == 1 and counted.hashed == ONCE


async def taken_down(*parts: object) -> None: ...
