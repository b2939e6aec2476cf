"""The agents that `agent.use` can name: each is a folder with an `agent.yaml`, in `templates/` or of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.agents.places import FILE, builtin_agents, find_agents
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.agents.definition import AgentDefinition

__all__ = ["FILE", "builtin_agents", "find_agents", "known_agents", "list_agents", "load_agent", "remark_on"]


def known_agents() -> tuple[str, ...]:
    """The names that `agent.use` can have, sorted. Reads directories and no file."""
    return tuple(find_agents())


def list_agents() -> tuple[AgentDefinition, ...]:
    """All definitions, ordered by name. Raises SandboxfileError for one that is broken."""
    return tuple(load_agent(name) for name in known_agents())


def load_agent(name: str) -> AgentDefinition:
    """The definition of one agent: of the user, of the program, or for a package of npm, `npm:PACKAGE@VERSION`.

    Raises EngineError (exit code 2) when there is no agent of that name, and SandboxfileError, with every problem and
    its place, when the definition is broken.
    """
    if name.startswith("npm:"):
        from engine.agents.npm_package import define_package

        return define_package(name)
    found = find_agents()
    if name not in found:
        from sandboxfile.diagnostics import did_you_mean, quote

        hint = did_you_mean(name, found) or f"the agents are {', '.join(found)}"
        raise EngineError(f"there is no agent {quote(name)}", hint=hint, exit_code=2)
    # Imported here: `known_agents` is called while the user types a line, and needs no definition.
    from engine.agents.definition import read_definition

    return read_definition(found[name].path, shown=found[name].shown if found[name].own else name)


def remark_on(name: str) -> str:
    """Where the definition of an agent is, if that is not where everybody has it; else ""."""
    found = find_agents().get(name)
    return found.remark if found is not None else ""
