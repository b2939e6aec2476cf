"""What is built from what: a directed acyclic graph of content-addressed nodes."""

from __future__ import annotations

import graphlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.errors import EngineError


class Work(Protocol):
    """What makes a node's cache entry. It is a value, so that nodes can be compared and shown before they are built.

    `build` fills the directory of its context (`engine.build.context.BuildContext`), or raises.
    """

    async def build(self, context: Any, /) -> None:
        """Fill the directory of the context, or raise."""


@dataclass(frozen=True)
class Node:
    """One entry that the cache is to have.

    `key` must change whenever the result would change: it covers `inputs` and the keys of `needs`. `inputs` are named
    values, which a plan shows when they have changed; a list has one item on each line. `requires_entries`: the result
    builds upon the very entries of `needs`, as a disk does that is backed by its parent's disk; without exactly those
    entries it is useless. `work` is None for a node that this machine cannot build: it can be planned, not executed.
    """

    id: str
    kind: str
    title: str
    key: str
    needs: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    work: Work | None = None
    requires_entries: bool = False


class Graph:
    """Nodes and what they need. Raises EngineError for two nodes with the same id, for unknown needs and for cycles."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes: dict[str, Node] = {}
        for node in nodes:
            if node.id in self.nodes:
                raise EngineError(f"two nodes are called {node.id!r}")
            self.nodes[node.id] = node
        for node in self.nodes.values():
            for need in node.needs:
                if need not in self.nodes:
                    raise EngineError(f"{node.id!r} needs {need!r}, which is not there", hint=self._suggest(need))
        self._order = tuple(_sort(self.nodes))

    def order(self) -> list[Node]:
        """Every node after its needs.

        Where that leaves a choice, the nodes are in the order in which they were given.
        """
        return list(self._order)

    def descendants(self, id: str) -> set[str]:
        """Everything that needs `id`, directly or not."""
        found = {id}
        for node in self._order:
            if not found.isdisjoint(node.needs):
                found.add(node.id)
        return found - {id}

    def ancestors(self, id: str) -> set[str]:
        """Everything that `id` needs, directly or not."""
        found = {id}
        for node in reversed(self._order):
            if node.id in found:
                found.update(node.needs)
        return found - {id}

    def ends(self) -> list[str]:
        """The nodes that no other needs: what the graph is for."""
        needed = {need for node in self._order for need in node.needs}
        return [id for id in self.nodes if id not in needed]

    def _suggest(self, unknown: str) -> str | None:
        import difflib

        close = difflib.get_close_matches(unknown, self.nodes, n=1)
        return f"did you mean {close[0]!r}?" if close else None


def _sort(nodes: Mapping[str, Node]) -> Iterator[Node]:
    """The nodes in topological order; of those that may come next, the one given first.

    Raises EngineError for cycles.
    """
    sorter = graphlib.TopologicalSorter({node.id: node.needs for node in nodes.values()})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        cycle = error.args[1][:-1]
        first = cycle.index(min(cycle))
        around = [*cycle[first:], *cycle[:first], cycle[first]]
        raise EngineError("nodes need each other in a circle", details=" -> ".join(around)) from error
    ids, place = list(nodes), {id: number for number, id in enumerate(nodes)}
    waiting: list[int] = []  # a heap of places
    while sorter.is_active():
        for id in sorter.get_ready():
            heapq.heappush(waiting, place[id])
        id = ids[heapq.heappop(waiting)]
        yield nodes[id]
        sorter.done(id)
