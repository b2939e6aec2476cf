"""Real agents from npm, by `agent: {use: ...}`, on a task: the vendor gets the real key, and the guest never has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vendors import MUST_BE_ROOT, Vendors, build, start_vendors, values
from world import World

from engine import resources
from engine.agents import load_agent

KEYS = {
    "ANTHROPIC_API_KEY": "sk-ant-api03-real-and-never-in-the-guest",
    "OPENAI_API_KEY": "sk-real-and-never-in-the-guest",
}
# What the model has the agent run; `$(...)` some agents refuse.
COMMAND = "expr 40 + 2 | sed s,^,proof-, | tee proof.txt"
ENV = {**KEYS, "AGENT_COMMAND": COMMAND}
TASK_S = 900.0
TASK = "say what forty and two make"
HEADERS = {
    "claude-code": ("api.anthropic.com", "x-api-key", KEYS["ANTHROPIC_API_KEY"]),
    "codex": ("api.openai.com", "authorization", f"Bearer {KEYS['OPENAI_API_KEY']}"),
}


@MUST_BE_ROOT
@pytest.mark.parametrize("agent", HEADERS)
def test_a_task_is_done_with_the_real_key_outside(world: World, agent: str) -> None:
    project = world.project("", directory=agent)
    template = resources.templates() / agent / "Sandboxfile.yaml"
    (project / "Sandboxfile.yaml").write_text(template.read_text())
    build(world, project, ENV)
    host, header, key = HEADERS[agent]
    with start_vendors(world, [host], "model_vendor.py", ENV) as vendor:
        argv = ("run", "--yes", "--json", "--progress", "plain", "--timeout", "10m", "-p", TASK)
        ran = world.sandbox(*argv, cwd=project, timeout_s=TASK_S).ok()
        done = json.loads(ran.out)
        _is_done(done, project, agent)
        _key_at_vendor_alone(vendor, host, header, key, ran.out + ran.err)
        # A second machine of the agent: nothing is installed again, and this time it is looked into.
        world.sandbox("up", "-d", "--yes", "--progress", "plain", cwd=project, timeout_s=TASK_S).ok()
        places = "/etc /home /opt /root /run /tmp /var/lib /proc/[0-9]*/environ"
        look = f"cat > /dev/shm/word; grep -rlF -f /dev/shm/word {places}"
        found = world.sandbox(
            "exec", "-i", "-u", "root", "--", "sh", "-c", look, cwd=project, stdin=f"{key.split()[-1]}\n"
        )
        assert found.out == "", "nothing of the guest holds the key"
        assert world.sandbox("ls", "--json", cwd=project).ok().out.count('"name"') == 1, (
            "the machine of the task is gone"
        )


def _is_done(done: dict[str, object], project: Path, agent: str) -> None:
    assert done["exit"] == 0, done
    assert done["agent"] == {"name": agent, "version": load_agent(agent).install.version}
    assert "proof-42" in str(done["result"]), done
    assert done["changed"] == ["proof.txt"] and (project / "proof.txt").read_text() == "proof-42\n"
    assert done["refused"] == [] and done["usage"] is not None


def _key_at_vendor_alone(vendor: Vendors, host: str, header: str, key: str, told: str) -> None:
    got = vendor.got()
    assert len(got) >= 2 and {one["host"] for one in got} == {host}
    assert all(values(one, header) == [key] for one in got)
    assert not any(key.split()[-1] in json.dumps(one["body"]) for one in got), "what the agent itself says has no key"
    assert key.split()[-1] not in told
    refused = vendor.directory / "refused"
    assert not refused.exists(), refused.read_text()
