"""What will be done and why, before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.cache.store import Store
from engine.plan.differences import describe_changes
from engine.plan.graph import Graph, Node
from engine.plan.made import Made
from engine.report.columns import align
from engine.report.text import clean_line

Action = Literal["cached", "build", "not needed"]


@dataclass(frozen=True)
class PlannedNode:
    """What happens to one node of the graph, and why."""

    id: str
    title: str
    action: Action
    reason: str

    def describe(self) -> str:
        """The action and its reason in one line."""
        return clean_line(f"build: {self.reason}" if self.action == "build" else self.reason)


@dataclass(frozen=True)
class Plan:
    """One step per node of the graph, every node after its needs."""

    steps: tuple[PlannedNode, ...]

    @property
    def to_build(self) -> tuple[PlannedNode, ...]:
        return tuple(step for step in self.steps if step.action == "build")

    @property
    def cached(self) -> tuple[PlannedNode, ...]:
        return tuple(step for step in self.steps if step.action == "cached")

    def step(self, id: str) -> PlannedNode:
        """The step of the node `id`. Raises KeyError."""
        return {step.id: step for step in self.steps}[id]

    def render(self) -> str:
        """One line for each step, in aligned columns, then a line that counts them. Equal plans give equal text."""
        rows = [(clean_line(step.title), step.describe()) for step in self.steps]
        cached = len(self.cached)
        lines = [*align(rows, indent="  ").splitlines(), f"{cached} cached, {len(self.to_build)} to build"]
        return "".join(f"{line}\n" for line in lines)

    def to_json(self) -> dict[str, Any]:
        steps = [{"id": s.id, "title": s.title, "action": s.action, "reason": s.reason} for s in self.steps]
        return {"version": 1, "steps": steps}


def make_plan(graph: Graph, store: Store, previous: Mapping[str, Made] | None = None) -> Plan:
    """Decide what happens to each node. Reads the store, and changes only the entries' time of last use.

    The ends of the graph are needed, and so is whatever a node that has to be built needs. `previous` is what
    `load_made` returned. Raises EngineError for a key that is no key of the cache.
    """
    with store.one_look():
        cached = {node.id: store.find(node.kind, node.key) is not None for node in graph.order()}
        needed = set(graph.ends())
        steps = []
        for node in reversed(graph.order()):  # reversed: a node is looked at after every node that needs it
            if node.id in needed and not cached[node.id]:
                needed.update(node.needs)
        for node in graph.order():
            steps.append(_decide(node, graph, store, previous or {}, cached[node.id], node.id in needed))
        return Plan(tuple(steps))


def _decide(
    node: Node, graph: Graph, store: Store, previous: Mapping[str, Made], cached: bool, needed: bool
) -> PlannedNode:
    """The cases are tried in order; the first one that applies gives the action and the reason."""
    entry = store.entry(node.kind, node.key)
    if cached and entry is not None:
        return PlannedNode(node.id, node.title, "cached", f"cached since {entry.created.astimezone():%Y-%m-%d %H:%M}")
    if not needed:
        return PlannedNode(node.id, node.title, "not needed", "not needed: what needs it is cached")
    return PlannedNode(node.id, node.title, "build", _why_build(node, graph, store, previous))


def _why_build(node: Node, graph: Graph, store: Store, previous: Mapping[str, Made]) -> str:
    entry = store.entry(node.kind, node.key)
    if entry and (damage := store.damage(entry)):
        return f"cache entry is damaged: {damage}"
    if entry and (broken := store.broken_parent(entry)):
        names = {f"{other.kind}/{other.key}": other.id for other in graph.nodes.values()}
        gone = store.entry(*broken.split("/", 1))
        how = "is damaged" if gone and store.damage(gone) else "was removed"
        return f"cache entry of {names.get(broken, broken)} {how}"
    before = previous.get(node.id)
    if before is None:
        return "not built yet"
    if before["key"] == node.key:
        return "cache entry was removed"
    if changes := describe_changes(before["inputs"], node.inputs):
        return changes
    for need in node.needs:
        if need in previous and previous[need]["key"] != graph.nodes[need].key:
            return f"parent {need} changed"
    return "the way it is built changed"
