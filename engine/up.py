"""The first half of `up`: decide what a checked file needs, and build what is missing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.accelerator import Verdict
from engine.content import content_key
from engine.errors import EngineError
from engine.graph import Graph
from engine.layout import Layout
from engine.nodes.chain import Chain, machine_shape, make_chain
from engine.nodes.foundation import GUEST_NEEDS, load_verdict, tool_nodes
from engine.nodes.steps import Session
from engine.plan import Plan, load_made, make_plan, save_made
from engine.report import Reporter
from engine.scheduler import execute
from engine.store import Store
from sandboxfile import Loaded

JOBS = 4  # nodes at once: most wait for the network or for one emulated CPU


@dataclass
class Project:
    """One checked file with everything that deciding about it needs."""

    loaded: Loaded
    layout: Layout
    store: Store
    session: Session

    @classmethod
    def of(cls, loaded: Loaded, layout: Layout, **options: Any) -> Project:
        return cls(loaded, layout, Store(layout), Session(layout, loaded, **options))

    def verdict(self) -> Verdict | None:
        """The accelerator that was seen to boot a guest, None before anything was probed."""
        return load_verdict(self.store)

    def chain(self) -> Chain:
        verdict = self.verdict()
        self.session.shape = machine_shape(self.loaded, verdict)
        return make_chain(self.loaded, verdict, self.session)

    def plan(self) -> Plan:
        return make_plan(self.chain().graph, self.store, load_made(self.layout.project_plan(self.loaded.project)))

    def instance_key(self) -> str:
        """Changes when a running sandbox is no longer what the file asks for."""
        chain = self.chain()
        sandbox = self.loaded.sandbox
        running = sandbox.model_dump(mode="json", include={"agent", "mounts", "endpoints", "ports", "services"})
        return content_key(chain.graph.nodes[chain.ready].key, running)


@dataclass(frozen=True)
class Built:
    """The cache entries that a sandbox is started from."""

    entries: Mapping[str, Path]
    ready: str


async def build(project: Project, reporter: Reporter) -> Built:
    """Make everything that the plan calls for. Raises EngineError with the failed node's last lines."""
    memory = project.layout.project_plan(project.loaded.project)
    if project.verdict() is None:
        tools = Graph(tool_nodes())
        await execute(tools, make_plan(tools, project.store, load_made(memory)), project.store, reporter, JOBS)
    chain = project.chain()
    plan = make_plan(chain.graph, project.store, load_made(memory))
    done = await execute(chain.graph, plan, project.store, reporter, JOBS)
    save_made(memory, chain.graph, chain.graph.nodes)
    entries = dict(done)
    for name in (*GUEST_NEEDS, chain.ready):
        node = chain.graph.nodes[name]
        path = entries.get(name) or project.store.find(node.kind, node.key)
        if path is None:
            raise EngineError(f"the cache entry of {name} has gone away", hint="run `sandbox up` again")
        entries[name] = path
    return Built(entries, chain.ready)
