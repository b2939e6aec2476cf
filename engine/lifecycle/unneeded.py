"""The hosts that a sandbox's agent asks for and works without: telemetry, updates, tips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.state.configuration import load_running
from engine.state.layout import Layout
from sandboxfile import SandboxfileError

if TYPE_CHECKING:
    from engine.agents.definition import AgentDefinition


@dataclass(frozen=True)
class Unneeded:
    """`title` is the agent's name as its makers write it, `hosts` as in its definition, with `*.` for all below."""

    title: str = ""
    hosts: tuple[str, ...] = ()

    def has(self, host: str) -> bool:
        return any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in self.hosts)


def unneeded_by(definition: AgentDefinition) -> Unneeded:
    return Unneeded(definition.title, definition.unneeded)


def unneeded_in(layout: Layout, name: str) -> Unneeded:
    """Those of the agent that the sandbox `name` runs with; none where that is not known any more."""
    running = load_running(layout, name)
    agent = running.configuration.sandbox.get("agent") if running is not None else None
    use = agent.get("use") if isinstance(agent, Mapping) else None
    if not isinstance(use, str):
        return Unneeded()
    from engine.agents import load_agent

    try:
        return unneeded_by(load_agent(use))
    except (EngineError, SandboxfileError):
        return Unneeded()  # a definition that is gone or broken: then every refused host is shown
