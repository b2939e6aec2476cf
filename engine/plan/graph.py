"""What is to be made of what: a directed acyclic graph of content-addressed nodes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import networkx as nx

from engine.errors import EngineError
from engine.state.keys import content_key as content_key


class Work(Protocol):
    """What makes a node's entry: a value, so that nodes can be compared and shown without anything being made.

    `build` fills the directory of its context (`engine.build.context.BuildContext`) and raises when it cannot.
    """

    async def build(self, context: Any, /) -> None: ...


@dataclass(frozen=True)
class Node:
    """One thing to have in the cache.

    `key` must change whenever the result would: it covers `inputs` and the keys of `needs`. `inputs` are the named
    values behind it, shown when they change; a list is one item a line. `requires_entries`: the result continues its
    needs' entries (a disk backed by the parent's), so it is worth nothing without exactly those. `work` is None for
    what this machine cannot build; planning it works, executing it fails.
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
    """Nodes and what they need. Raises EngineError for two nodes of one id, unknown needs, and cycles."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes: dict[str, Node] = {}
        for node in nodes:
            if node.id in self.nodes:
                raise EngineError(f"two nodes are called {node.id!r}")
            self.nodes[node.id] = node
        self._graph: nx.DiGraph[str] = nx.DiGraph()
        self._graph.add_nodes_from(self.nodes)
        for node in self.nodes.values():
            for need in node.needs:
                if need not in self.nodes:
                    raise EngineError(f"{node.id!r} needs {need!r}, which is not there", hint=self._suggest(need))
                self._graph.add_edge(need, node.id)
        if not nx.is_directed_acyclic_graph(self._graph):
            cycle = [edge[0] for edge in nx.find_cycle(self._graph)]
            first = cycle.index(min(cycle))
            around = [*cycle[first:], *cycle[:first], cycle[first]]
            raise EngineError("nodes need each other in a circle", details=" -> ".join(around))

    def order(self) -> list[Node]:
        """Every node after its needs; among equals, as they were given."""
        place = {id: number for number, id in enumerate(self.nodes)}
        return [self.nodes[id] for id in nx.lexicographical_topological_sort(self._graph, key=place.__getitem__)]

    def descendants(self, id: str) -> set[str]:
        """Everything that needs `id`, directly or not."""
        return set(nx.descendants(self._graph, id))

    def ancestors(self, id: str) -> set[str]:
        """Everything that `id` needs, directly or not."""
        return set(nx.ancestors(self._graph, id))

    def ends(self) -> list[str]:
        """The nodes that no other needs: what the graph is for."""
        return [id for id in self.nodes if not self._graph.out_degree(id)]

    def _suggest(self, unknown: str) -> str | None:
        close = difflib.get_close_matches(unknown, self.nodes, n=1)
        return f"did you mean {close[0]!r}?" if close else None
