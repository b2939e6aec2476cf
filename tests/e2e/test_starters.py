"""What `sandbox init NAME` writes is enough: it comes up, and its agent answers, for an ordinary user, too."""

from __future__ import annotations

import json

import pytest
from test_agent_tasks import AGENTS as FACTS
from test_agent_tasks import COMMANDS, TASK, TASK_S
from vendors import NEEDS_NETWORK, build, start_vendors
from world import World

from engine.agents import load_agent
from engine.starter.templates import template_names

WITHOUT_AGENT = ("shell", "default")


def test_every_starter_is_tried_or_said_not_to_be() -> None:
    others = set(template_names()) - set(FACTS) - set(WITHOUT_AGENT)
    assert {load_agent(name).evidence for name in others} == {"documents"}


@NEEDS_NETWORK
@pytest.mark.parametrize("agent", FACTS)
def test_the_starter_of_an_agent(world: World, agent: str) -> None:
    facts = FACTS[agent]
    project = world.base / agent
    project.mkdir()
    world.sandbox("init", agent, "--yes", cwd=project).ok()
    env = {**facts.environment(), "AGENT_COMMANDS": json.dumps(COMMANDS[:1]), "AGENT_UNTIL": ""}
    build(world, project, env)
    with start_vendors(world, facts.hosts, "model_vendor.py", env) as vendor:
        argv = ("run", "--yes", "--json", "--progress", "plain", "--timeout", "10m", "-p", TASK)
        done = json.loads(world.sandbox(*argv, cwd=project, timeout_s=TASK_S).ok().out)
        assert done["exit"] == 0 and "proof-42" in done["result"] and done["refused"] == [], done
        assert done["agent"]["name"] == agent
        assert (project / "proof.txt").read_text() == "proof-42\n"
        assert not (vendor.directory / "refused").exists()
        world.sandbox("up", "-d", "--yes", "--progress", "plain", cwd=project, timeout_s=TASK_S).ok()
        assert [one["status"] for one in world.listed(project)] == ["running"]


@pytest.mark.parametrize("name", WITHOUT_AGENT)
def test_the_starter_without_an_agent(world: World, name: str) -> None:
    project = world.base / name
    project.mkdir()
    world.sandbox("init", name, "--yes", cwd=project).ok()
    world.up(project)
    assert world.run(project, "pwd; docker version --format '{{.Server.Os}}'").ok().out == "/workspace\nlinux\n"
