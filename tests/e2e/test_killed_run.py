"""The machine of `run` is there for that command: one that is killed leaves nothing, and `--keep` keeps it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from world import World, wait_until

AGENT = """\
title: Waits
summary: an agent that says when it works, and waits for a file
evidence: run
install: {version: "1.0.0", steps: [{run: "true"}]}
commands:
  interactive: [sleep, inf]
  headless: [sh, -c, "cd /workspace; echo works > state; while [ ! -e go ]; do sleep 0.2; done", sh, "{{prompt}}"]
"""


def test_a_killed_run_leaves_nothing_and_a_kept_one_stays(world: World) -> None:
    agent = Path(os.environ["SANDBOX_CONFIG_DIR"], "agents/waits/agent.yaml")
    agent.parent.mkdir(parents=True)
    agent.write_text(AGENT)
    project = world.project("name: waits\nagent: {use: waits}\nmounts: [.:/workspace]\n", {"state": "nothing"})
    state, go = project / "state", project / "go"
    task = world.start("run", "--yes", "--progress", "plain", "-p", "wait", cwd=project)
    wait_until(state.read_text, lambda text: text == "works\n", "the agent does not work", timeout_s=1800)
    (row,) = world.listed(project)
    assert row["name"].startswith("waits-run-") and row["status"] == "running"
    task.kill()
    task.wait()
    wait_until(world.processes, lambda found: not found, "the machine of a killed `run` runs on")
    assert world.listed(project) == []
    instances = Path(os.environ["SANDBOX_STATE_DIR"], "instances")
    assert not list(instances.iterdir())

    state.write_text("nothing")
    task = world.start("run", "--yes", "--progress", "plain", "-p", "wait", cwd=project)
    wait_until(lambda: list(instances.glob("*/supervisor.log")), bool, "its supervisor does not begin")
    task.kill()
    task.wait()
    wait_until(world.processes, lambda found: not found, "the supervisor of a killed `run` runs on")
    assert not list(instances.iterdir())

    state.write_text("nothing")
    task = world.start("run", "--yes", "--progress", "plain", "--keep", "--json", "-p", "wait", cwd=project)
    wait_until(state.read_text, lambda text: text == "works\n", "the agent does not work")
    go.touch()
    assert task.wait(120) == 0 and task.stdout is not None
    (row,) = world.listed(project)
    assert row["status"] == "running", json.dumps(row)
    assert world.sandbox("exec", "-n", row["name"], "--", "cat", "/workspace/state", cwd=project).ok().out == "works\n"
    world.sandbox("pause", row["name"], cwd=project).ok()
    world.sandbox("resume", row["name"], cwd=project).ok()
    assert world.sandbox("exec", "-n", row["name"], "--", "true", cwd=project).ok()
