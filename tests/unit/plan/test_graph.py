"""The graph refuses what cannot be ordered, and orders the rest the same way each time."""

from __future__ import annotations

import random

import pytest

from engine.errors import EngineError
from engine.plan.graph import Graph, Node
from engine.state.keys import content_key


def node(id: str, *needs: str) -> Node:
    return Node(id=id, kind="disk", title=id.title(), key=content_key(id), needs=needs)


def test_needs_come_first_and_equals_as_given() -> None:
    graph = Graph([node("ready", "web", "db"), node("web", "base"), node("db", "base"), node("base"), node("alone")])
    assert [node.id for node in graph.order()] == ["base", "web", "db", "ready", "alone"]


def test_the_order_is_the_same_each_time() -> None:
    nodes = [node(f"n{number}", *(f"n{need}" for need in range(number) if need % 3 == 0)) for number in range(30)]
    random.Random(4).shuffle(nodes)
    assert [n.id for n in Graph(nodes).order()] == [n.id for n in Graph(nodes).order()]


def test_relatives() -> None:
    graph = Graph([node("a"), node("b", "a"), node("c", "b"), node("d", "a")])
    assert graph.descendants("a") == {"b", "c", "d"}
    assert graph.ancestors("c") == {"a", "b"}
    assert graph.ends() == ["c", "d"]


def test_unknown_needs_are_refused_with_a_suggestion() -> None:
    with pytest.raises(EngineError, match="'b' needs 'baze', which is not there") as caught:
        Graph([node("base"), node("b", "baze")])
    assert caught.value.hint == "did you mean 'base'?"


def test_a_cycle_is_shown() -> None:
    with pytest.raises(EngineError, match="circle") as caught:
        Graph([node("z"), node("a", "c"), node("b", "a"), node("c", "b")])
    assert caught.value.details == "a -> b -> c -> a"


def test_two_of_a_name_are_refused() -> None:
    with pytest.raises(EngineError, match="two nodes are called 'a'"):
        Graph([node("a"), node("a")])


def test_an_empty_graph_is_fine() -> None:
    assert Graph([]).order() == []
