"""Agents by name: what `agent: {use: NAME}` stands for. Each is a folder of `templates/` with an `agent.yaml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import resources
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.agents.definition import AgentDefinition

FILE = "agent.yaml"


def known_agents() -> tuple[str, ...]:
    """The names that `agent.use` may have, sorted. Reads one directory and no file."""
    return tuple(sorted(path.parent.name for path in resources.templates().glob(f"*/{FILE}")))


def list_agents() -> tuple[AgentDefinition, ...]:
    """All definitions, by name. Raises SandboxfileError for one that is broken."""
    return tuple(load_agent(name) for name in known_agents())


def load_agent(name: str) -> AgentDefinition:
    """The definition of one agent.

    Raises EngineError (exit code 2) for a name that there is not, SandboxfileError with every problem and its place
    for a definition that is broken.
    """
    known = known_agents()
    if name not in known:
        from sandboxfile.diagnostics import did_you_mean, quote

        hint = did_you_mean(name, known) or f"the agents are {', '.join(known)}"
        raise EngineError(f"there is no agent {quote(name)}", hint=hint, exit_code=2)
    from engine.agents.definition import read_definition  # known_agents is asked while a line is typed, and needs none

    return read_definition(resources.templates() / name / FILE)
