"""A whole scheduler, tested with builds of a few lines that wait for each other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.build.context import BuildContext
from engine.build.scheduler import execute
from engine.cache.holds import held_entries
from engine.cache.store import Store
from engine.errors import EngineError
from engine.plan.build_plan import make_plan
from engine.plan.graph import Graph, Node
from engine.report.reporter import Reporter
from engine.state.keys import content_key
from engine.state.layout import Layout

Build = Callable[[BuildContext], Awaitable[None]]


class Recorder:
    """A reporter that remembers: (event, node, ...)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def node_started(self, node: str, title: str) -> None:
        self.events.append(("started", node))

    def node_line(self, node: str, line: str) -> None:
        self.events.append(("line", node, line))

    def node_waiting(self, node: str, message: str) -> None:
        self.events.append(("waiting", node, message))

    def node_finished(self, node: str, seconds: float) -> None:
        self.events.append(("finished", node))

    def node_failed(self, node: str, message: str, seconds: float) -> None:
        self.events.append(("failed", node, message))

    def node_skipped(self, node: str, reason: str) -> None:
        self.events.append(("skipped", node, reason))

    def note(self, text: str) -> None:
        self.events.append(("note", text))

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def of(self, kind: str) -> list[tuple[str, ...]]:
        return [event[1:] for event in self.events if event[0] == kind]


@pytest.fixture
def store() -> Store:
    return Store(Layout.from_environment(os.environ))


@dataclass(frozen=True)
class Doing:
    """Work that is one function."""

    do: Build

    async def build(self, context: BuildContext, /) -> None:
        await self.do(context)


async def write(context: BuildContext) -> None:
    (context.directory / "file").write_text("x")


def node(id: str, *needs: str, build: Build | None = write, **more: Any) -> Node:
    return Node(id, "disk", id.title(), content_key(id), needs, work=Doing(build) if build else None, **more)


async def run(graph: Graph, store: Store, recorder: Recorder | None = None, jobs: int = 4) -> dict[str, Path]:
    return dict(await execute(graph, make_plan(graph, store), store, recorder or Recorder(), jobs))


def test_results_are_entries_and_parents_are_handed_on(store: Store) -> None:
    seen: dict[str, Any] = {}

    async def child(context: BuildContext) -> None:
        seen.update(context.parents)
        context.log("hello")

    recorder = Recorder()
    graph = Graph([node("a"), node("b"), node("c", "a", "b", build=child)])
    done = asyncio.run(run(graph, store, recorder))
    assert done == {id: store.find("disk", graph.nodes[id].key) for id in "abc"}
    assert seen == {"a": done["a"], "b": done["b"]}
    assert ("line", "c", "hello") in recorder.events
    assert recorder.events[-1] == ("finished", "c")


def test_what_is_cached_is_not_built_but_handed_on(store: Store) -> None:
    recorder = Recorder()
    asyncio.run(run(Graph([node("a")]), store))
    done = asyncio.run(run(Graph([node("a", build=None), node("b", "a")]), store, recorder))
    assert set(done) == {"a", "b"}
    assert recorder.of("started") == [("b",)]


def test_independent_nodes_run_at_once(store: Store) -> None:
    async def scenario() -> None:
        barrier = asyncio.Barrier(3)

        async def meet(context: BuildContext) -> None:
            await barrier.wait()

        async with asyncio.timeout(30):
            await run(Graph([node(id, build=meet) for id in "abc"]), store)

    asyncio.run(scenario())


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_never_more_than_jobs_at_once(store: Store, jobs: int) -> None:
    running, most = 0, 0

    async def count(context: BuildContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1

    asyncio.run(run(Graph([node(id, build=count) for id in "abcdef"]), store, jobs=jobs))
    assert most == max(jobs, 1)


def test_a_failure_stops_its_dependents_and_lets_the_others_finish(store: Store) -> None:
    recorder = Recorder()

    async def scenario() -> None:
        failed = asyncio.Event()

        async def fail(context: BuildContext) -> None:
            failed.set()
            raise EngineError("apt-get ended with 100", details="E: no package", hint="look at packages", exit_code=2)

        async def last(context: BuildContext) -> None:
            await failed.wait()
            await write(context)

        graph = Graph(
            [
                node("bad", build=fail),
                node("good", build=last),
                node("child", "bad"),
                node("other", "good"),
                node("end", "child"),
            ]
        )
        with pytest.raises(EngineError) as caught:
            await run(graph, store, recorder)
        error = caught.value
        assert (error.brief, error.details) == ("Bad failed: apt-get ended with 100", "E: no package")
        assert (error.hint, error.exit_code) == ("look at packages", 2)
        assert store.find("disk", content_key("good"))

    asyncio.run(scenario())
    assert recorder.of("failed") == [("bad", "apt-get ended with 100")]
    assert recorder.of("finished") == [("good",)]
    assert {node: reason for node, reason in recorder.of("skipped")} == {
        "child": "skipped because bad failed",
        "end": "skipped because bad failed",
        "other": "not started because bad failed",
    }


def test_two_failures_are_both_told(store: Store) -> None:
    async def scenario() -> None:
        barrier = asyncio.Barrier(2)

        def fail(brief: str) -> Build:
            async def build(context: BuildContext) -> None:
                await barrier.wait()
                raise EngineError(brief, details=f"{brief} details")

            return build

        with pytest.raises(EngineError) as caught:
            await run(Graph([node("a", build=fail("no a")), node("b", build=fail("no b"))]), store)
        first, second = ("a", "b") if "no a" in caught.value.brief else ("b", "a")
        assert caught.value.details == f"no {first} details\n{second} failed too: no {second}"

    asyncio.run(scenario())


class ForeignError(Exception):
    """Has the shape of vmm's and sandboxfile's root errors."""

    brief, details, hint = "QEMU ended", "its last words", "try again"


@pytest.mark.parametrize(
    ("error", "brief", "details", "exit_code"),
    [
        (ForeignError(), "A failed: QEMU ended", "its last words", 1),
        (PermissionError(13, "Permission denied", "/x"), "A failed: [Errno 13] Permission denied: '/x'", None, 1),
        (KeyError("k"), "A failed: 'k'", "KeyError in our own code", 3),
    ],
)
def test_other_errors_are_told_apart_from_our_bugs(
    store: Store, error: Exception, brief: str, details: str | None, exit_code: int
) -> None:
    async def fail(context: BuildContext) -> None:
        raise error

    with pytest.raises(EngineError) as caught:
        asyncio.run(run(Graph([node("a", build=fail)]), store))
    assert (caught.value.brief, caught.value.details, caught.value.exit_code) == (brief, details, exit_code)
    assert caught.value.__cause__ is error


def test_cancelling_cancels_and_waits_for_everything(store: Store) -> None:
    cleaned: list[str] = []

    async def scenario() -> None:
        both = asyncio.Barrier(3)

        async def hang(context: BuildContext) -> None:
            await both.wait()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(context.directory.name)

        task = asyncio.create_task(run(Graph([node("a", build=hang), node("b", build=hang), node("c", "a")]), store))
        await both.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())
    assert len(cleaned) == 2
    assert list(store.layout.temporary.iterdir()) == []


def test_what_cannot_be_built_here_says_so(store: Store) -> None:
    with pytest.raises(EngineError, match="A cannot be built on this machine"):
        asyncio.run(run(Graph([node("a", build=None)]), store))


def test_an_entry_that_is_pruned_after_the_plan_is_built_again(store: Store) -> None:
    graph = Graph([node("a")])
    asyncio.run(run(graph, store))
    plan = make_plan(graph, store)
    store.remove("disk", graph.nodes["a"].key)
    done = asyncio.run(execute(graph, plan, store, Recorder(), 1))
    assert done["a"].is_dir() and store.find("disk", graph.nodes["a"].key) == done["a"]


def test_what_is_built_upon_is_held_until_the_end(store: Store) -> None:
    held: list[dict[str, list[int]]] = []

    async def look(context: BuildContext) -> None:
        held.append(held_entries(store.layout))

    graph = Graph([node("a"), node("b", "a", build=look)])
    asyncio.run(run(graph, store))
    assert held == [{f"disk/{graph.nodes[name].key}": [os.getpid()] for name in "ab"}]
    assert held_entries(store.layout) == {}


def test_children_that_continue_a_rebuilt_parent_are_rebuilt(store: Store) -> None:
    built: list[str] = []

    async def note(context: BuildContext) -> None:
        built.append(context.directory.name.split("-")[1])

    graph = Graph([node("a", build=note), node("b", "a", build=note, requires_entries=True)])
    asyncio.run(run(graph, store))
    store.remove("disk", graph.nodes["a"].key)
    asyncio.run(run(graph, store))
    assert built == [graph.nodes[id].key for id in "abab"]
    assert make_plan(graph, store).to_build == ()


def test_waiting_for_another_builder_is_reported(store: Store) -> None:
    async def scenario() -> None:
        recorder, inside, go = Recorder(), asyncio.Event(), asyncio.Event()

        async def hang(context: BuildContext) -> None:
            inside.set()
            await go.wait()

        class Waiting(Recorder):
            def node_waiting(self, node: str, message: str) -> None:
                super().node_waiting(node, message)
                go.set()

        first = asyncio.create_task(run(Graph([node("a", build=hang)]), store, recorder))
        await inside.wait()
        waiting = Waiting()
        done = await run(Graph([node("a", build=hang)]), store, waiting)
        assert await first == done
        assert "is being built by process" in waiting.of("waiting")[0][1]

    asyncio.run(scenario())
