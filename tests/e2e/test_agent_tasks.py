"""Real agents, by `agent: {use: ...}`, on a task: the vendor gets the real key, and the guest never has it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from vendors import MUST_BE_ROOT, Vendors, build, start_vendors, values
from world import World

from engine import resources
from engine.agents import load_agent

# What the model has the agent run, one a turn; `$(...)` some agents refuse. The image is made of the guest's own shell.
FILES = "bin/sh lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6"
COMMANDS = (
    "expr 40 + 2 | sed s,^,proof-, | tee proof.txt",
    f"tar -chC / {FILES} | docker import - localhost/small && docker run --rm --network none -v /workspace:/w"
    " localhost/small /bin/sh -c 'echo contained-42 > /w/contained.txt; echo contained-42'",
)
# For an agent that waits for a command no longer than half a minute, or ten seconds: a busy machine without KVM may
# need more for a container. The last one is asked for until it says what the container did.
IN_THE_BACKGROUND = (
    COMMANDS[0],
    f"setsid nohup sh -c {shlex.quote(f'{COMMANDS[1]}; touch /tmp/done')} > /tmp/said 2>&1 < /dev/null & echo begun",
    "timeout 7 sh -c 'until [ -e /tmp/done ]; do sleep 1; done'; cat /tmp/said",
)
UNTIL = {"AGENT_UNTIL": "contained-42"}
TASK_S = 1200.0
TASK = "say what forty and two make"
REAL = "real-and-never-in-the-guest"


@dataclass(frozen=True)
class Facts:
    """What a vendor demands: `header` has the value of the variable `env` of the user, after `scheme`. `further` are
    other hosts of the vendor that the agent asks. The agent has `minutes` for its task."""

    host: str
    env: str
    header: str = "authorization"
    scheme: str = "Bearer "
    further: tuple[str, ...] = ()
    commands: tuple[str, ...] = COMMANDS
    minutes: int = 10
    secrets: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", {self.env: f"{self.env.lower()}-{REAL}"})

    @property
    def key(self) -> str:
        return self.secrets[self.env]

    @property
    def hosts(self) -> list[str]:
        return [self.host, *self.further]

    def environment(self) -> dict[str, str]:
        keys = {host: [self.header, self.scheme + self.key] for host in self.hosts}
        return {**self.secrets, "AGENT_KEYS": json.dumps(keys), "AGENT_COMMANDS": json.dumps(self.commands), **UNTIL}


ANTHROPIC = Facts("api.anthropic.com", "ANTHROPIC_API_KEY", "x-api-key", "")
OPENAI = Facts("api.openai.com", "OPENAI_API_KEY")
GOOGLE = Facts("generativelanguage.googleapis.com", "GEMINI_API_KEY", "x-goog-api-key", "")
AGENTS = {
    "claude-code": ANTHROPIC,
    "codex": replace(OPENAI, commands=IN_THE_BACKGROUND),
    "opencode": ANTHROPIC,
    "copilot": Facts("api.github.com", "COPILOT_GITHUB_TOKEN", further=("api.individual.githubcopilot.com",)),
    "gemini": GOOGLE,
    # Under emulation it alone takes some minutes to begin.
    "openclaw": replace(ANTHROPIC, commands=IN_THE_BACKGROUND, minutes=30),
    "pi": ANTHROPIC,
    "qwen-code": Facts("dashscope.aliyuncs.com", "DASHSCOPE_API_KEY"),
    "cline": replace(ANTHROPIC, commands=IN_THE_BACKGROUND),
}


@MUST_BE_ROOT
@pytest.mark.parametrize("agent", AGENTS)
def test_a_task_is_done_with_the_real_key_outside(world: World, agent: str) -> None:
    facts = AGENTS[agent]
    project = world.project("", directory=agent)
    template = resources.templates() / agent / "Sandboxfile.yaml"
    (project / "Sandboxfile.yaml").write_text(template.read_text())
    env = facts.environment()
    build(world, project, env)
    with start_vendors(world, facts.hosts, "model_vendor.py", env) as vendor:
        argv = ("run", "--yes", "--json", "--progress", "plain", "--timeout", f"{facts.minutes}m", "-p", TASK)
        ran = world.sandbox(*argv, cwd=project, timeout_s=TASK_S + facts.minutes * 60).ok()
        done = json.loads(ran.out)
        print(f"{agent}: {done['seconds']} s of {ran.seconds:.1f} s")
        _is_done(done, project, agent)
        _key_at_vendor_alone(vendor, facts, ran.out + ran.err)
        # A second machine of the agent: nothing is installed again, and this time it is looked into.
        world.sandbox("up", "-d", "--yes", "--progress", "plain", cwd=project, timeout_s=TASK_S).ok()
        places = "/etc /home /opt /root /run /tmp /var/lib /proc/[0-9]*/environ"
        look = f"cat > /dev/shm/word; grep -rlF -f /dev/shm/word {places}"
        looked = ("exec", "-i", "-u", "root", "--", "sh", "-c", look)
        found = world.sandbox(*looked, cwd=project, stdin=f"{facts.key}\n")
        assert found.out == "", "nothing of the guest holds the key"
        assert world.sandbox("ls", "--json", cwd=project).ok().out.count('"name"') == 1, (
            "the machine of the task is gone"
        )


def _is_done(done: dict[str, object], project: Path, agent: str) -> None:
    assert done["exit"] == 0, done
    assert done["agent"] == {"name": agent, "version": load_agent(agent).install.version}
    assert "proof-42" in str(done["result"]) and "contained-42" in str(done["result"]), done
    assert done["changed"] == ["contained.txt", "proof.txt"], done
    assert (project / "proof.txt").read_text() == "proof-42\n"
    assert (project / "contained.txt").read_text() == "contained-42\n"
    assert done["refused"] == [] and done["usage"] is not None, done


def _key_at_vendor_alone(vendor: Vendors, facts: Facts, told: str) -> None:
    got = vendor.got()
    assert len(got) >= 3 and {one["host"] for one in got} == set(facts.hosts)
    assert all(values(one, facts.header) == [facts.scheme + facts.key] for one in got)
    assert not any(facts.key in json.dumps(one["body"]) for one in got), "what the agent itself says has no key"
    assert facts.key not in told
    refused = vendor.directory / "refused"
    assert not refused.exists(), refused.read_text()
