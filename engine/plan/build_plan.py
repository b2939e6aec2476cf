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
    """What happens to one node, and why."""

    id: str
    title: str
    action: Action
    reason: str

    def describe(self) -> str:
        return clean_line(f"build: {self.reason}" if self.action == "build" else self.reason)


@dataclass(frozen=True)
class Plan:
    """One step per node of the graph, every node after its needs."""

    steps: tuple[PlannedNode, ...]

    @property
    def to_build(self) -> tuple[PlannedNode, ...]:
        return tuple(step for step in self.steps if step.action == "build")

    def step(self, id: str) -> PlannedNode:
        """Raises KeyError."""
        return {step.id: step for step in self.steps}[id]

    def render(self) -> str:
        """Aligned columns, one line a step, and a line with the sum. The same plan gives the same text."""
        rows = [(clean_line(step.title), step.describe()) for step in self.steps]
        cached = sum(step.action == "cached" for step in self.steps)
        lines = [*align(rows, indent="  ").splitlines(), f"{cached} cached, {len(self.to_build)} to build"]
        return "".join(f"{line}\n" for line in lines)

    def to_json(self) -> dict[str, Any]:
        steps = [{"id": s.id, "title": s.title, "action": s.action, "reason": s.reason} for s in self.steps]
        return {"version": 1, "steps": steps}


def make_plan(graph: Graph, store: Store, previous: Mapping[str, Made] | None = None) -> Plan:
    """Decide for each node. Reads the store, changes nothing (but the time of last use).

    Wanted are the graph's ends, and what has to be built needs what it needs. `previous` is what `load_made` gave.
    Raises EngineError for a key that cannot be one.
    """
    with store.one_look():
        found = {node.id: store.find(node.kind, node.key) is not None for node in graph.order()}
        wanted = set(graph.ends())
        steps = []
        for node in reversed(graph.order()):  # so that whoever needs a node has been decided before it
            if node.id in wanted and not found[node.id]:
                wanted.update(node.needs)
        for node in graph.order():
            steps.append(_decide(node, graph, store, previous or {}, found[node.id], node.id in wanted))
        return Plan(tuple(steps))


def _decide(
    node: Node, graph: Graph, store: Store, previous: Mapping[str, Made], found: bool, wanted: bool
) -> PlannedNode:
    """The ladder: the first rung that holds is the reason."""
    entry = store.entry(node.kind, node.key)
    if found and entry is not None:
        return PlannedNode(node.id, node.title, "cached", f"cached since {entry.created.astimezone():%Y-%m-%d %H:%M}")
    if not wanted:
        return PlannedNode(node.id, node.title, "not needed", "not needed: what needs it is cached")
    return PlannedNode(node.id, node.title, "build", _why_build(node, graph, store, previous))


def _why_build(node: Node, graph: Graph, store: Store, previous: Mapping[str, Made]) -> str:
    if (entry := store.entry(node.kind, node.key)) and (broken := store.broken_parent(entry)):
        names = {f"{other.kind}/{other.key}": other.id for other in graph.nodes.values()}
        return f"cache entry of {names.get(broken, broken)} was removed"
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
