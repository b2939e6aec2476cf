"""Checking that the agents that a file uses exist."""

from __future__ import annotations

from collections.abc import Iterator

from sandboxfile import Diagnostic, Loaded
from sandboxfile.diagnostics import did_you_mean, quote


def unknown_agents(loaded: Loaded) -> Iterator[Diagnostic]:
    """A problem for each `agent.use` that names no agent.

    Raises SandboxfileError for one of the user's own whose definition is wrong, with the places in that.
    """
    from engine.agents import find_agents, load_agent

    for one in loaded.each():
        agent = one.sandbox.agent
        if agent is None or agent.use is None or agent.use.startswith("npm:"):
            continue
        if agent.use in (known := find_agents()):
            if known[agent.use].own:
                load_agent(agent.use)
        else:
            hint = did_you_mean(agent.use, known) or f"the agents are {', '.join(known)}"
            yield one.diagnostic(("agent", "use"), f"there is no agent called {quote(agent.use)}", hint)
