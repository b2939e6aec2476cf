"""Every decision has a reason that a person understands."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.cache.store import Store
from engine.plan.build_plan import make_plan
from engine.plan.graph import Graph, Node
from engine.plan.made import Made, load_made, save_made
from engine.state.keys import content_key
from engine.state.layout import Layout


@pytest.fixture
def store() -> Store:
    return Store(Layout.from_environment(os.environ))


def chain(packages: str = "jq\ncurl", memory: str = "2GiB", recipe: int = 1) -> Graph:
    """toolchain -> image -> booted -> ready, the last two continue their parents' disks."""

    def node(id: str, *needs: Node, continues: bool = False, **inputs: str) -> Node:
        key = content_key(id, recipe if id == "image" else 1, [need.key for need in needs], inputs)
        return Node(id, id, id.title(), key, tuple(n.id for n in needs), inputs, requires_entries=continues)

    toolchain = node("toolchain")
    image = node("image", toolchain, packages=packages)
    booted = node("booted", image, continues=True, memory=memory)
    return Graph([toolchain, image, booted, node("ready", booted, continues=True)])


def fill(store: Store, graph: Graph, *ids: str) -> None:
    async def build() -> None:
        for id in ids or graph.nodes:
            node = graph.nodes[id]
            needs = [graph.nodes[need] for need in node.needs] if node.requires_entries else []
            async with store.build(node.kind, node.key, on_wait=print, parents=[(n.kind, n.key) for n in needs]):
                pass

    asyncio.run(build())


def decide(store: Store, graph: Graph, previous: Mapping[str, Made] | None = None) -> dict[str, str]:
    return {step.id: step.describe() for step in make_plan(graph, store, previous).steps}


def made(graph: Graph, path: Path) -> Mapping[str, Made]:
    save_made(path, graph, graph.nodes)
    return load_made(path)


def test_at_first_everything_is_built(store: Store) -> None:
    plan = make_plan(chain(), store)
    assert [step.id for step in plan.to_build] == ["toolchain", "image", "booted", "ready"]
    assert {step.reason for step in plan.steps} == {"not built yet"}


def test_then_everything_is_cached(store: Store) -> None:
    graph = chain()
    fill(store, graph)
    entry = store.entry("image", graph.nodes["image"].key)
    assert entry is not None
    plan = make_plan(graph, store)
    assert plan.to_build == ()
    assert plan.step("image").reason == f"cached since {entry.created.astimezone():%Y-%m-%d %H:%M}"


def test_nothing_is_built_for_what_is_cached(store: Store) -> None:
    graph = chain()
    fill(store, graph)
    store.remove("toolchain", graph.nodes["toolchain"].key)
    plan = make_plan(graph, store)
    assert plan.to_build == ()
    assert plan.step("toolchain").action == "not needed"


def test_what_has_to_be_built_needs_what_it_needs(store: Store) -> None:
    graph = chain()
    fill(store, graph, "image")
    decided = decide(store, graph)
    assert decided["toolchain"] == "not needed: what needs it is cached"
    assert decided["image"].startswith("cached since")
    assert decided["booted"] == decided["ready"] == "build: not built yet"


def test_a_disk_without_its_parent_is_built_again_with_it(store: Store, tmp_path: Path) -> None:
    graph = chain()
    fill(store, graph)
    store.remove("booted", graph.nodes["booted"].key)
    decided = decide(store, graph, made(graph, tmp_path / "plan.json"))
    assert decided["image"].startswith("cached")
    assert decided["booted"] == "build: cache entry was removed"
    assert decided["ready"] == "build: cache entry of booted was removed"


def test_a_disk_whose_parent_was_built_anew_is_built_again(store: Store) -> None:
    graph = chain()
    fill(store, graph)
    store.remove("image", graph.nodes["image"].key)
    fill(store, graph, "image")
    decided = decide(store, graph)
    assert decided["image"].startswith("cached")
    assert decided["ready"] == "build: cache entry of image was removed"


def test_changes_are_named(store: Store, tmp_path: Path) -> None:
    graph = chain()
    fill(store, graph)
    previous = made(graph, tmp_path / "plan.json")
    decided = decide(store, chain(packages="curl\nripgrep", memory="4GiB"), previous)
    assert decided["toolchain"].startswith("cached")
    assert decided["image"] == "build: packages changed: +ripgrep -jq"
    assert decided["booted"] == "build: memory changed: 2GiB -> 4GiB"
    assert decided["ready"] == "build: parent booted changed"


def test_a_changed_recipe_is_named(store: Store, tmp_path: Path) -> None:
    previous = made(chain(), tmp_path / "plan.json")
    assert decide(store, chain(recipe=2), previous)["image"] == "build: the way it is built changed"


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        ("", "jq", "packages changed: +jq"),
        ("jq", "", "packages changed: -jq"),
        ("a\nb", "b\na", "packages changed (order)"),
        ("a" * 64, "b" * 64, "packages changed"),
        ("x", "\n".join("abcdefgh"), "packages changed: +a +b +c +d +e +f and 3 more"),
        ("x\ny", "x\n" + "z" * 99, "packages changed"),
        ("x", "evil\x1b[2J", "packages changed: x -> evil"),
    ],
)
def test_differences_are_short(store: Store, tmp_path: Path, before: str, now: str, reason: str) -> None:
    previous = made(chain(packages=before), tmp_path / "plan.json")
    assert decide(store, chain(packages=now), previous)["image"] == f"build: {reason}"


def test_the_text_is_aligned_and_the_same_each_time(store: Store) -> None:
    graph = chain()
    fill(store, graph, "image")
    entry = store.entry("image", graph.nodes["image"].key)
    assert entry is not None
    since = f"{entry.created.astimezone():%Y-%m-%d %H:%M}"
    assert make_plan(graph, store).render() == (
        "  Toolchain  not needed: what needs it is cached\n"
        f"  Image      cached since {since}\n"
        "  Booted     build: not built yet\n"
        "  Ready      build: not built yet\n"
        "1 cached, 2 to build\n"
    )


def test_the_json_says_the_same(store: Store) -> None:
    document = json.loads(json.dumps(make_plan(chain(), store).to_json()))
    assert document["version"] == 1
    assert document["steps"][0] == {
        "id": "toolchain",
        "title": "Toolchain",
        "action": "build",
        "reason": "not built yet",
    }


def test_what_was_made_is_kept_for_nodes_that_were_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "plan.json"
    save_made(path, chain(), ["toolchain", "image"])
    save_made(path, chain(packages="other"), ["booted"])
    known = load_made(path)
    assert set(known) == {"toolchain", "image", "booted"}
    assert known["image"]["inputs"] == {"packages": "jq\ncurl"}


@pytest.mark.parametrize("text", ["", "[]", '{"nodes": 3}', '{"nodes": {"a": {"key": "x"}}}', "\x00"])
def test_a_damaged_memory_only_costs_the_explanation(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    assert load_made(tmp_path / "plan.json") == {}
