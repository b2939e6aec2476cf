"""The agents that `agent: {use: NAME}` can name. Each is a folder of `templates/` with an `agent.yaml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import resources
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.agents.definition import AgentDefinition

FILE = "agent.yaml"


def known_agents() -> tuple[str, ...]:
    """The possible values of `agent.use`, sorted. Reads one directory and no file."""
    return tuple(sorted(path.parent.name for path in resources.templates().glob(f"*/{FILE}")))


def list_agents() -> tuple[AgentDefinition, ...]:
    """All definitions, ordered by name. Raises SandboxfileError for one that is broken."""
    return tuple(load_agent(name) for name in known_agents())


def load_agent(name: str) -> AgentDefinition:
    """The definition of one agent.

    Raises EngineError (exit code 2) when there is no agent of that name, and SandboxfileError, with every problem and
    its place, when the definition is broken.
    """
    known = known_agents()
    if name not in known:
        from sandboxfile.diagnostics import did_you_mean, quote

        hint = did_you_mean(name, known) or f"the agents are {', '.join(known)}"
        raise EngineError(f"there is no agent {quote(name)}", hint=hint, exit_code=2)
    # Imported here: `known_agents` is called while the user types a line, and needs no definition.
    from engine.agents.definition import read_definition

    return read_definition(resources.templates() / name / FILE)
