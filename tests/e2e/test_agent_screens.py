"""Real agents from npm on a full screen: no dialog, a prompt answered, a tool run, detached, attached, quit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from screen_terminal import ScreenTerminal
from terminal_screen import READY
from test_agent_tasks import AGENTS as FACTS
from test_agent_tasks import COMMANDS
from vendors import MUST_BE_ROOT, build, start_vendors
from world import UP_S, World

from engine import resources

START_S = 300.0  # of an agent of 400 MB under emulation
TURN_S = 300.0
TASK = "say what forty and two make"
RESULT = "proof-42"


@dataclass(frozen=True)
class Agent:
    """What a person sees and types. `answer` is on its screen when its task is done; `quit` are the keys that end it,
    one after the other as the screen shows the words before them."""

    name: str
    quit: Sequence[tuple[str, str]]
    answer: str = RESULT
    code: int = 0


AGENTS = (
    Agent("claude-code", [("", "/exit"), ("/exit", "\r")]),
    Agent("codex", [("", "/quit"), ("/quit", "\r")]),
    Agent("opencode", [("", "/exit"), ("/exit", "\r")]),
    Agent("copilot", [("", "/exit"), ("/exit", "\r")]),
    # On a screen it gives the model no output of a command that ends at once, at least under emulation.
    Agent("gemini", [("", "/quit"), ("/quit", "\r")], "The command said"),
)


@MUST_BE_ROOT
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_an_agent_on_a_full_screen(world: World, agent: Agent) -> None:
    project = _project(world, agent.name)
    facts = FACTS[agent.name]
    env = {**facts.environment(), "AGENT_COMMANDS": json.dumps(COMMANDS[:1]), "AGENT_UNTIL": ""}
    build(world, project, env)
    with start_vendors(world, facts.hosts, "model_vendor.py", env) as vendor, contextlib.ExitStack() as stack:

        def terminal(*argv: str, size: tuple[int, int]) -> ScreenTerminal:
            return stack.enter_context(contextlib.closing(ScreenTerminal(world, project, *argv, size=size)))

        first = terminal("up", "--yes", "--progress", "quiet", size=(40, 120))
        first.wait_for_text(READY[agent.name], UP_S)  # nothing was typed so far: there was no dialog
        first.type(TASK)
        first.wait_for_text(TASK, TURN_S)
        first.type("\r")
        first.wait_for_text(agent.answer, TURN_S)
        assert (project / "proof.txt").read_text() == f"{RESULT}\n"
        first.detach(TURN_S)
        assert world.listed(project)[0]["agent"] == {"state": "detached", "terminals": 0, "code": None}
        # In a smaller terminal, what was said is on the screen again.
        second = terminal("attach", size=(24, 80))
        second.wait_for_text(agent.answer, TURN_S)
        for words, keys in agent.quit:
            second.wait_for_text(words, TURN_S)
            second.type(keys)
        assert second.wait(TURN_S) == agent.code
        assert world.listed(project)[0]["agent"]["state"] == "ended"
        assert not (vendor.directory / "refused").exists()
        assert facts.key not in first.shown + second.shown


def _project(world: World, agent: str) -> Path:
    project = world.project("", directory=agent)
    template = resources.templates() / agent / "Sandboxfile.yaml"
    (project / "Sandboxfile.yaml").write_text(template.read_text())
    return project
