"""What will be done and why, before anything is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from engine.cache.store import Store
from engine.errors import EngineError
from engine.files import read_json, write_json
from engine.plan.graph import Graph, Node
from engine.report.text import clean_line
from engine.secrets.secrecy import masked_inputs

Action = Literal["cached", "build", "not needed"]

SHOWN_ITEMS = 6  # of a changed list
SHOWN_VALUE = 40  # characters of a changed value


class Made(TypedDict):
    """What is remembered of a node that was made: enough to say what has changed since."""

    key: str
    inputs: dict[str, str]


@dataclass(frozen=True)
class Step:
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

    steps: tuple[Step, ...]

    @property
    def to_build(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.action == "build")

    def step(self, id: str) -> Step:
        """Raises KeyError."""
        return {step.id: step for step in self.steps}[id]

    def render(self) -> str:
        """Aligned columns, one line a step, and a line with the sum. The same plan gives the same text."""
        width = max((len(clean_line(step.title)) for step in self.steps), default=0)
        lines = [f"  {clean_line(step.title):<{width}}  {step.describe()}" for step in self.steps]
        cached = sum(step.action == "cached" for step in self.steps)
        return "\n".join([*lines, f"{cached} cached, {len(self.to_build)} to build"]) + "\n"

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


def load_made(path: Path) -> dict[str, Made]:
    """What `save_made` wrote; nothing when the file is missing or damaged, which only costs the explanations."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        nodes = read_json(path)["nodes"]
        # Older versions kept values.
        return {id: Made(key=str(made["key"]), inputs=masked_inputs(made["inputs"])) for id, made in nodes.items()}
    return {}


def save_made(path: Path, graph: Graph, done: Iterable[str]) -> None:
    """Remember the nodes in `done` as they are in `graph`, keeping what is known of the others. Raises EngineError."""
    known: dict[str, Made] = {id: made for id, made in load_made(path).items() if id in graph.nodes}
    for id in done:
        known[id] = Made(key=graph.nodes[id].key, inputs=dict(graph.nodes[id].inputs))
    try:
        write_json(path, {"version": 1, "nodes": known})
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}") from error


def _decide(node: Node, graph: Graph, store: Store, previous: Mapping[str, Made], found: bool, wanted: bool) -> Step:
    """The ladder: the first rung that holds is the reason."""
    entry = store.entry(node.kind, node.key)
    if found and entry is not None:
        return Step(node.id, node.title, "cached", f"cached since {entry.created.astimezone():%Y-%m-%d %H:%M}")
    if not wanted:
        return Step(node.id, node.title, "not needed", "not needed: what needs it is cached")
    return Step(node.id, node.title, "build", _why_build(node, graph, store, previous))


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


def describe_changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two sets of named inputs, in a few words; "" when nothing does."""
    names = sorted(name for name in {*before, *now} if before.get(name, "") != now.get(name, ""))
    return "; ".join(f"{name} changed{_describe_change(before.get(name, ''), now.get(name, ''))}" for name in names)


def _describe_change(before: str, now: str) -> str:
    old, new = before.splitlines(), now.splitlines()
    if len(old) == 1 and len(new) == 1:
        both = f": {before} -> {now}"
        return "" if _looks_hashed(before) or len(both) > 2 * SHOWN_VALUE else both
    items = [f"+{item}" for item in new if item not in old] + [f"-{item}" for item in old if item not in new]
    if not items:
        return " (order)"
    if any(_looks_hashed(item[1:]) or len(item) > SHOWN_VALUE for item in items):
        return ""
    more = [f"and {len(items) - SHOWN_ITEMS} more"] if len(items) > SHOWN_ITEMS else []
    return ": " + " ".join(items[:SHOWN_ITEMS] + more)


def _looks_hashed(value: str) -> bool:
    return len(value) >= 32 and all(character in "0123456789abcdef" for character in value)
