"""The first half of `up`: decide what a checked file needs, and build what is missing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.build.accelerator import Verdict
from engine.build.chain import OF_SERVICES, Chain, machine_shape, make_chain
from engine.build.foundation import GUEST_NEEDS, load_verdict, tool_nodes
from engine.build.scheduler import execute
from engine.build.step import Session
from engine.cache.store import Store
from engine.errors import EngineError
from engine.plan.build_plan import Plan, make_plan
from engine.plan.graph import Graph
from engine.plan.made import load_made, save_made
from engine.project.tree import ATTEMPTS, ContentChanged, keeps_changing
from engine.report.reporter import Reporter
from engine.resolve.compose import Compose
from engine.resolve.mounts_and_ports import wanted_mounts
from engine.state.configuration import Configuration
from engine.state.layout import Layout
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

    @property
    def memory(self) -> Path:
        """Where the last build is remembered."""
        return self.layout.project_plan(self.loaded.project, self.loaded.agent_name)

    def plan(self) -> Plan:
        return make_plan(self.chain().graph, self.store, load_made(self.memory))

    def configuration(self, chain: Chain | None = None) -> Configuration:
        """What a sandbox of this file runs with, by the file and the project as they are (or were, for `chain`)."""
        chain = chain or self.chain()
        nodes = [node for node in chain.graph.order() if node.id not in OF_SERVICES]
        return Configuration(
            sandbox=self.loaded.sandbox.model_dump(mode="json", by_alias=True),
            mounts=tuple(mount.source for mount in wanted_mounts(self.loaded)),
            contents=chain.contents,
            build={node.id: {"key": node.key, "inputs": dict(node.inputs)} for node in nodes},
        )


@dataclass(frozen=True)
class Built:
    """The cache entries that a sandbox is started from, and the configuration that they are of."""

    entries: Mapping[str, Path]
    ready: str
    configuration: Configuration
    compose: Compose | None


async def build(project: Project, reporter: Reporter) -> Built:
    """Make everything that the plan calls for, again where something changes while it is copied.

    Raises EngineError with the failed node's last lines, and for what keeps changing.
    """
    memory = project.memory
    if project.verdict() is None:
        tools = Graph(tool_nodes())
        await execute(tools, make_plan(tools, project.store, load_made(memory)), project.store, reporter, JOBS)
    for left in reversed(range(ATTEMPTS)):
        chain = project.chain()
        plan = make_plan(chain.graph, project.store, load_made(memory))
        try:
            done = await execute(chain.graph, plan, project.store, reporter, JOBS)
            break
        except EngineError as error:
            changed = error.__cause__
            if not isinstance(changed, ContentChanged):
                raise
            if not left:
                raise keeps_changing(changed.path) from error
            # Everything before it is cached; its own key is another one now.
            reporter.note(f"{changed.brief}: building again with what is there now")
    save_made(memory, chain.graph, chain.graph.nodes)
    entries = dict(done)
    for name in (*GUEST_NEEDS, chain.ready):
        node = chain.graph.nodes[name]
        path = entries.get(name) or project.store.find(node.kind, node.key)
        if path is None:
            raise EngineError(f"the cache entry of {name} has gone away", hint="run `sandbox up` again")
        entries[name] = path
    return Built(entries, chain.ready, project.configuration(chain), chain.compose)
