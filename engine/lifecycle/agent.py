"""The agent of one sandbox: what its file says, with what its definition and its credentials add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.lifecycle.credentials import Credentials
from engine.resolve.mounts_and_ports import working_directory
from engine.state.instances import AgentCall, Keeps
from sandboxfile import Loaded
from sandboxfile.sections.agent import Agent, home_of

SHELL_HISTORY = ".bash_history"


@dataclass(frozen=True)
class Dressed:
    """How the agent is started, None where the file has none. `files` (path, mode, text) are those of its user `user`,
    `environment` is for everything in the guest. `note` (path, text) is what the agent is told about its machine; an
    empty text takes back what it has been told. `keeps` is what of the home outlives the machine."""

    call: AgentCall | None = None
    user: str = "agent"
    files: tuple[tuple[str, int, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    note: tuple[str, str] | None = None
    keeps: Keeps | None = None


def dress(loaded: Loaded, credentials: Credentials) -> Dressed:
    """What `up` gives to the guest for the agent of the file. Raises EngineError for an agent that nobody knows."""
    agent = loaded.sandbox.agent
    if agent is None:
        return Dressed(environment=credentials.environment())
    if agent.use is None:
        call = AgentCall([*(agent.command or ()), *agent.args], agent.user, dict(agent.env))
        return Dressed(call, agent.user, environment=credentials.environment(), keeps=_keeps(agent))
    from engine.agents import load_agent
    from engine.agents.outfit import in_home, outfit_for

    definition, workspace = load_agent(agent.use), working_directory(loaded)
    outfit = outfit_for(definition, agent, workspace, credentials.held)
    command = list(agent.command or ()) + list(agent.args) if agent.command else list(outfit.command)
    # Its own credential reaches the agent as its definition says: one in the environment may have it ask for approval.
    environment = credentials.environment(without=outfit.secret)
    call = AgentCall(command, agent.user, dict(outfit.environment))
    note = None
    if definition.note is not None:
        from engine.agents.note import note_for

        note = in_home(definition.note, agent), note_for(loaded.sandbox, workspace) if agent.note else ""
    return Dressed(call, agent.user, outfit.files, environment, note, _keeps(agent, definition.sessions))


def _keeps(agent: Agent, sessions: Sequence[str] = ()) -> Keeps | None:
    """The agent's own sessions, and the history of its user's shell."""
    if not agent.keep:
        return None
    return Keeps(home_of(agent), agent.user, [SHELL_HISTORY, *(path.removeprefix("~/") for path in sessions)])
