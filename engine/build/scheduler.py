"""Carrying out a plan: independent nodes are built at the same time, until all are built or one fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from engine.build.context import BuildContext, BuildSession
from engine.cache.disk_space import while_room
from engine.cache.holds import hold_entries
from engine.cache.needs import disks_upon
from engine.cache.store import Store
from engine.errors import OUR_BUG, EngineError
from engine.plan.build_plan import Plan, make_plan
from engine.plan.graph import Graph, Node
from engine.report.reporter import Reporter


async def execute(
    graph: Graph, plan: Plan, store: Store, reporter: Reporter, jobs: int, session: BuildSession | None = None
) -> Mapping[str, Path]:
    """Build the nodes that `plan` says to build, at most `jobs` at once; returns the entry of each node that has one.

    `session` is passed to the nodes in their context; the nodes of tools need none.

    When a node fails, no further node is started. The nodes that are being built are finished, and cached for the next
    time; then EngineError is raised for the first failure. When this is cancelled, it cancels all running nodes and
    waits for them.
    """
    store.sweep()
    run = _Run(graph, store, reporter, session)
    with hold_entries(store.layout) as hold:
        hold.add(f"{node.kind}/{node.key}" for node in graph.order())
        # What was pruned between the plan and the hold is built again; afterwards nobody prunes it.
        if not all(store.find(graph.nodes[step.id].kind, graph.nodes[step.id].key) for step in plan.cached):
            plan = make_plan(graph, store)
        for step in plan.cached:
            run.use(graph.nodes[step.id])
        return await run.build([graph.nodes[step.id] for step in plan.to_build], max(jobs, 1))


class _Run:
    """One execution of a plan. Only the loop in `build` writes results: the tasks return theirs to it."""

    def __init__(self, graph: Graph, store: Store, reporter: Reporter, session: BuildSession | None) -> None:
        self._session = session
        self._graph = graph
        self._store = store
        self._reporter = reporter
        self._done: dict[str, Path] = {}
        self._failed: dict[str, Exception] = {}

    def use(self, node: Node) -> None:
        entry = self._store.find(node.kind, node.key)
        if entry is None:
            raise EngineError(
                f"the cache entry of {node.title} has disappeared since the plan was made", hint="run the command again"
            )
        self._done[node.id] = entry

    async def build(self, nodes: list[Node], jobs: int) -> Mapping[str, Path]:
        waiting = {node.id: node for node in nodes}
        running: dict[asyncio.Task[Path], Node] = {}
        try:
            while waiting or running:
                for node in [node for node in waiting.values() if self._is_ready(node)]:
                    if len(running) < jobs and not self._failed:
                        running[asyncio.create_task(self._build_node(node), name=f"build {node.id}")] = waiting.pop(
                            node.id
                        )
                if not running:
                    break
                finished, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    self._collect(running.pop(task), task)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if self._failed:
            for node in waiting.values():
                self._reporter.node_skipped(node.id, self._why_skipped(node))
            raise self._summary()
        if waiting:  # the plan has a node to build without a node that it needs
            raise EngineError(f"nothing provides what {', '.join(waiting)} need", exit_code=OUR_BUG)
        return self._done

    def _is_ready(self, node: Node) -> bool:
        return all(need in self._done for need in node.needs)

    def _collect(self, node: Node, task: asyncio.Task[Path]) -> None:
        if task.cancelled():
            # This object has cancelled no task yet, so the node's own code has done it: that is a failure.
            self._failed[node.id] = EngineError("it was cancelled from within", exit_code=OUR_BUG)
        elif isinstance(error := task.exception(), Exception):
            self._failed[node.id] = error
        elif error is not None:
            raise error
        else:
            self._done[node.id] = task.result()

    async def _build_node(self, node: Node) -> Path:
        started = time.monotonic()
        self._reporter.node_started(node.id, node.title)
        try:
            path = await self._build_entry(node)
        except asyncio.CancelledError:
            self._reporter.node_skipped(node.id, "cancelled")
            raise
        except Exception as error:
            self._reporter.node_failed(node.id, str(error) or type(error).__name__, time.monotonic() - started)
            raise
        self._reporter.node_finished(node.id, time.monotonic() - started)
        return path

    async def _build_entry(self, node: Node) -> Path:
        if node.work is None:
            raise EngineError(f"{node.title} cannot be built on this machine")
        needs = [self._graph.nodes[need] for need in node.needs]
        self._keep_disks(node)
        async with self._store.build(
            node.kind,
            node.key,
            on_wait=lambda message: self._reporter.node_waiting(node.id, message),
            inputs=node.inputs,
            parents=[(need.kind, need.key) for need in needs] if node.requires_entries else (),
            title=node.title,
        ) as build:
            if build is not None:
                context = BuildContext(
                    directory=build.directory,
                    parents={need.id: self._done[need.id] for need in needs},
                    log=lambda line: self._reporter.node_line(node.id, line),
                    sockets=build.sockets,
                    session=self._session,
                )
                await while_room(node.work.build(context), build.directory)
        return self._store.layout.entry(node.kind, node.key)

    def _keep_disks(self, node: Node) -> None:
        """An entry that is there, and is built all the same, is damaged or useless. What takes its place has other
        bytes, on which the disk of a sandbox that has been started from it would be garbage."""
        if self._store.entry(node.kind, node.key) is None or self._store.find(node.kind, node.key) is not None:
            return
        if upon := disks_upon(self._store.layout).get(f"{node.kind}/{node.key}"):
            names = ", ".join(sorted({keeper.name for keeper in upon}))
            raise EngineError(
                f"it has to be built again, and the disk of {names} stands on what it was",
                hint=f"copy out what you need, `sandbox down` {names}, and run the command again",
            )

    def _why_skipped(self, node: Node) -> str:
        for id in self._failed:
            if node.id in self._graph.descendants(id):
                return f"skipped because {id} failed"
        return f"not started because {next(iter(self._failed))} failed"

    def _summary(self) -> EngineError:
        (id, first), *others = self._failed.items()
        cause = EngineError.of(first)
        details = [cause.details, *(f"{other} failed too: {error}" for other, error in others)]
        failure = EngineError(
            f"{self._graph.nodes[id].title} failed: {cause.brief}",
            details="\n".join(filter(None, details)) or None,
            hint=cause.hint,
            exit_code=cause.exit_code,
        )
        failure.__cause__ = first
        return failure
