"""Values of environments are in no plan: neither shown nor kept. Their names are, and that one has changed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.build.chain import make_chain
from engine.cache.store import Store
from engine.cli.showing.summary import to_json
from engine.drawing.of_file import draw_file
from engine.files import write_json
from engine.lifecycle.outcome import Outcome
from engine.plan.build_plan import make_plan
from engine.plan.differences import describe
from engine.plan.graph import Graph
from engine.plan.made import load_made, save_made
from engine.secrets.secrecy import is_private_place, masked_inputs
from engine.state.instances import AgentCall, Instance
from engine.state.layout import Layout
from sandboxfile import Inputs, Loaded, load

FILE = """
agent: {{command: [run], env: {{PLAIN: agent-{value}}}}}
setup:
  - {{run: make, env: {{NPM_TOKEN: npm-{value}, WORD: word-{value}}}}}
services:
  web:
    image: web
    build: {{context: ., args: {{STRIPE: args-{value}}}}}
    environment: {{WORD: dict-{value}}}
  db: {{image: db, environment: [DSN=list-{value}]}}
"""
VALUES = [f"{what}-{value}" for what in ("agent", "npm", "word", "args", "dict", "list") for value in ("one", "two")]


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


def read(directory: Path, value: str) -> Loaded:
    (directory / "Sandboxfile.yaml").write_text(f'version: "1"\nname: shop\n{FILE.format(value=value)}')
    return load(directory / "Sandboxfile.yaml", Inputs())


def graph(directory: Path, value: str, layout: Layout) -> Graph:
    loaded = read(directory, value)
    return make_chain(loaded, None).graph


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (project := tmp_path / "shop").mkdir()
    (project / "Dockerfile").write_text("FROM scratch\n")
    return project


def assert_no_value(text: str) -> None:
    assert [value for value in VALUES if value in text] == []


def test_the_plan_and_what_it_remembers(project: Path, layout: Layout) -> None:
    memory = layout.project_plan(project)
    first = graph(project, "one", layout)
    save_made(memory, first, first.nodes)
    assert_no_value(memory.read_text())
    plan = make_plan(graph(project, "two", layout), Store(layout), load_made(memory))
    assert plan.step("setup[0]").reason == "env NPM_TOKEN changed; env WORD changed"
    assert "images changed;" in plan.step("images").reason
    assert_no_value(plan.render() + json.dumps(plan.to_json()))
    assert_no_value(json.dumps(draw_file(read(project, "two"), layout).to_json()))


def test_each_value_counts(project: Path, layout: Layout) -> None:
    keys = {value: graph(project, value, layout).nodes["setup[0]"].key for value in ("one", "two")}
    assert keys["one"] != keys["two"]


def test_the_record_of_a_cache_entry(project: Path, layout: Layout) -> None:
    store = Store(layout)
    for node in graph(project, "one", layout).nodes.values():

        async def build(node: Any = node) -> None:
            async with store.build(node.kind, node.key, on_wait=print, inputs=node.inputs):
                pass

        asyncio.run(build())
        assert_no_value(layout.entry_record(layout.entry(node.kind, node.key)).read_text())


OLD = {
    "run": "make",
    "env": '{"NPM_TOKEN": "npm-one", "WORD": "word-one"}',
    "images": '{"web": {"build": {"args": {"STRIPE": "args-one"}}}}',
    "services": '{"db": {"environment": ["DSN=list-one"]}}',
}


def test_what_an_older_version_kept(project: Path, layout: Layout) -> None:
    memory = layout.project_plan(project)
    now = graph(project, "two", layout)
    write_json(memory, {"version": 1, "nodes": {id: {"key": "0", "inputs": OLD} for id in now.nodes}})
    plan = make_plan(now, Store(layout), load_made(memory))
    assert_no_value(plan.render() + json.dumps(plan.to_json()))
    assert "env NPM_TOKEN changed" in plan.step("setup[0]").reason
    # It is written anew, also what was not built.
    save_made(memory, now, [])
    assert_no_value(memory.read_text())
    assert len(load_made(memory)) == len(now.nodes)


def test_an_older_entry(layout: Layout) -> None:
    store, key = Store(layout), "ab" * 16

    async def build() -> None:
        async with store.build("setup", key, on_wait=print, inputs=OLD):
            pass

    asyncio.run(build())
    entry = store.entry("setup", key)
    assert entry is not None
    assert_no_value(json.dumps(dict(entry.inputs)))


@pytest.mark.parametrize("inputs", [OLD, {"env": "[1]"}, {"env": "{"}, {"env": "{}"}, {}])
def test_masking_twice_is_masking_once(inputs: Mapping[str, str]) -> None:
    assert masked_inputs(masked_inputs(inputs)) == masked_inputs(inputs)
    assert masked_inputs({"env": '{"A": "x"}'}) != masked_inputs({"env": '{"A": "y"}'})


@pytest.mark.parametrize(
    ("path", "private"),
    [
        (("setup", 0, "env", "A"), True),
        (("services", "a", "environment"), True),
        (("services", "a", "build", "args", "X"), True),
        (("services", "a", "labels", "github_pat"), True),
        (("agent", "args"), False),
        (("secrets", "a", "env"), False),
        (("services", "a", "image"), False),
    ],
)
def test_places(path: tuple[str | int, ...], private: bool) -> None:
    assert is_private_place(path) == private


def test_what_up_prints_for_programs() -> None:
    agent = AgentCall(["run"], "agent", {"PLAIN": "agent-one"})
    instance = Instance("shop", "/p", "/p/f", "0", "2026-01-01T00:00:00+00:00", "running", agent=agent)
    printed = to_json(Outcome(instance, "started", (), 1.0))
    assert list(printed["agent"]["env"]) == ["PLAIN"]
    assert_no_value(json.dumps(printed))
    assert agent.env == {"PLAIN": "agent-one"}


def test_lists_of_assignments() -> None:
    assert describe({"environment": ["A=1", "B"], "image": "x"}) == "environment: ..., image: x"
    assert describe(["A=1", "MY_TOKEN=2"]) == "A=1 MY_TOKEN=..."
    assert describe(["A=1"], ("services", "a", "environment")) == "A=..."
