"""The blueprint of a file on this host. It is made once; then it is printed, asked about and carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.build.accelerator import Verdict
from engine.build.chain import OF_SERVICES, Chain, make_chain
from engine.build.context import BuildSession, OnFailure
from engine.build.foundation import GUEST_NEEDS, load_verdict, tool_nodes
from engine.build.image.build import Place
from engine.build.scheduler import execute
from engine.cache.store import Store
from engine.errors import EngineError
from engine.plan.build_plan import Plan, make_plan
from engine.plan.graph import Graph
from engine.plan.made import load_made, save_made
from engine.project.tree import ATTEMPTS, ContentChanged, keeps_changing, opened
from engine.report.reporter import Reporter
from engine.resolve.mounts_and_ports import wanted_mounts
from engine.state.configuration import Configuration
from engine.state.layout import Layout
from sandboxfile import Loaded

JOBS = 4  # nodes that are built at once: most of them wait for the network or for one emulated CPU


@dataclass(frozen=True)
class Blueprint:
    """What a checked file becomes on this host: its chain of nodes, and which of them are in the cache.

    All files of the project that will be copied have been hashed. `verdict` says which accelerator has booted a guest;
    it is None before the accelerators have been probed.
    """

    loaded: Loaded
    layout: Layout
    store: Store
    place: Place
    verdict: Verdict | None
    chain: Chain

    @classmethod
    def of(cls, loaded: Loaded, layout: Layout, place: Place = "auto") -> Blueprint:
        """Make the blueprint of a file. Hashes the files to copy, which takes a while for many. Raises EngineError."""
        store = Store(layout)
        verdict = load_verdict(store)
        return cls(loaded, layout, store, place, verdict, make_chain(loaded, verdict, place))

    def again(self) -> Blueprint:
        """A new blueprint of the same file, for the host and the project as they are now."""
        return Blueprint.of(self.loaded, self.layout, self.place)

    @cached_property
    def plan(self) -> Plan:
        """What is cached and what has to be built, with reasons. It is made at the first use and kept."""
        return make_plan(self.chain.graph, self.store, load_made(self.memory))

    @property
    def memory(self) -> Path:
        """The file in which the last build is remembered."""
        return self.layout.project_plan(self.loaded.project, self.loaded.agent_name)

    @cached_property
    def configuration(self) -> Configuration:
        """What a sandbox of this file runs with, to be compared with what an older one runs with."""
        nodes = [node for node in self.chain.graph.order() if node.id not in OF_SERVICES]
        return Configuration(
            sandbox=self.loaded.sandbox.model_dump(mode="json", by_alias=True),
            mounts=tuple(mount.source for mount in wanted_mounts(self.loaded)),
            contents=self.chain.contents,
            build={node.id: {"key": node.key, "inputs": dict(node.inputs)} for node in nodes},
        )


@dataclass(frozen=True)
class Built:
    """The cache entries that a sandbox is started from, and their blueprint."""

    blueprint: Blueprint
    entries: Mapping[str, Path]

    @property
    def snapshot(self) -> Path:
        """The cache entry with the snapshot that `up` restores."""
        return self.entries[self.blueprint.chain.ready]


async def build(blueprint: Blueprint, reporter: Reporter, on_failure: OnFailure | None = None) -> Built:
    """Carry out the plan of `blueprint`.

    If no accelerator was known yet, or a file changes while it is copied, a new blueprint is made of what is there now,
    and its plan is carried out; a note says so for a changed file. The result has the blueprint that was carried out.
    Raises EngineError with the last lines of the failed node, and for a file that keeps changing.
    """
    store, memory = blueprint.store, blueprint.memory
    if blueprint.verdict is None:
        tools = Graph(tool_nodes())
        await execute(tools, make_plan(tools, store, load_made(memory)), store, reporter, JOBS)
        blueprint = blueprint.again()
    session = BuildSession(opened(blueprint.loaded.project), on_failure)
    for left in reversed(range(ATTEMPTS)):
        try:
            done = await execute(blueprint.chain.graph, blueprint.plan, store, reporter, JOBS, session)
            break
        except EngineError as error:
            changed = error.__cause__
            if not isinstance(changed, ContentChanged):
                raise
            if not left:
                raise keeps_changing(changed.path) from error
            # The nodes before the failed one are cached now. The failed node gets another key, that of the new content.
            reporter.note(f"{changed.brief}: building again with what is there now")
            blueprint = blueprint.again()
    graph, entries = blueprint.chain.graph, dict(done)
    save_made(memory, graph, graph.nodes, blueprint.loaded.project)
    for name in (*GUEST_NEEDS, blueprint.chain.ready):
        node = graph.nodes[name]
        path = entries.get(name) or store.find(node.kind, node.key)
        if path is None:
            raise EngineError(f"the cache entry of {name} has gone away", hint="run `sandbox up` again")
        entries[name] = path
    return Built(blueprint, entries)
