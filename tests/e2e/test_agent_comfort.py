"""Living with an agent in a real machine: its note, what it asks for, what is kept of it, how it signs in and ends."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from world import UP_S, World

from engine.lifecycle.task_end import End, run_agent
from engine.state.instances import AgentCall
from engine.state.layout import Layout
from vmm.channel.client import connect

KEY, TOKEN = "sk-ant-api03-0123456789abcdef", "sk-ant-oat01-0123456789abcdef"
FILE = """
name: comfort
agent: {use: claude-code, keep: true}
mounts: [".:/workspace", "./docs:/docs:ro"]
endpoints:
  - {host: api.anthropic.com, secret: anthropic}
secrets: {anthropic: {env: MY_KEY}}
"""
NOTE = "/home/agent/.claude/CLAUDE.md"


@pytest.fixture
def project(world: World) -> Path:
    return world.project(FILE, {"docs/a": "a\n"})


def up(world: World, project: Path, *options: str, key: str = KEY) -> str:
    argv = ("up", "-d", "--yes", "--progress", "plain", *options)
    ran = world.sandbox(*argv, cwd=project, timeout_s=UP_S, **({"MY_KEY": key} if key else {})).ok()
    return ran.out + ran.err


def test_a_life_with_an_agent(world: World, project: Path) -> None:
    shown = up(world, project, key="")
    assert "warning: Claude Code has no credential: the secret anthropic has no value" in shown
    assert "`sandbox secret set anthropic` gives it one" in shown
    world.run(project, f"printf 'my own words\\n' >> {NOTE}").ok()
    note = world.run(project, f"cat {NOTE}").ok().out
    assert "`/docs` is a directory of the user, read-only." in note and str(project) not in note
    assert world.run(project, "ls -A /workspace").ok().out.split() == ["Sandboxfile.yaml", "docs"]

    asked = world.run(project, "sandbox-ask new.example.com --why 'to see'").ok().out
    assert asked.startswith("The user has been asked for new.example.com.")
    told = json.loads(world.sandbox("journal", "--asks", "--json", cwd=project).ok().out)
    assert [(row["host"], row["why"]) for row in told["asks"]] == [("new.example.com", "to see")]
    world.sandbox("allow", "new.example.com", cwd=project).ok()
    assert world.listed(project)[0]["asks"] == []
    in_container = "docker run --rm localhost/debian:13 getent hosts ask.sandbox.invalid"
    assert "10.0.2.100" in world.run(project, in_container).ok().out, "containers have the same way"

    shown = up(world, project, key=TOKEN)
    assert "secrets.anthropic  live  has a value now" in shown
    assert "apiKeyHelper" not in world.run(project, "cat ~/.claude/settings.json").ok().out

    (project / "Sandboxfile.yaml").write_text(
        (project / "Sandboxfile.yaml").read_text().replace("endpoints:\n", "endpoints:\n  - added.example.com\n")
    )
    up(world, project, key=TOKEN)
    note = world.run(project, f"cat {NOTE}").ok().out
    assert "- `added.example.com`\n" in note and note.endswith("my own words\n")

    world.run(project, "mkdir -p ~/.claude/projects/w && echo '{}' > ~/.claude/projects/w/a.jsonl").ok()
    world.run(project, "echo hush > ~/.claude/.credentials.json; ln -s /etc/passwd ~/.claude/projects/link").ok()
    world.sandbox("down", cwd=project).ok()
    up(world, project)
    kept = world.run(project, "find ~/.claude -type f -printf '%u %m %P\\n' -o -type l -print | sort").ok().out
    assert "agent 644 projects/w/a.jsonl\n" in kept
    assert "credentials" not in kept and "link" not in kept
    assert "my own words" not in world.run(project, f"cat {NOTE}").ok().out, "the note is new"
    assert "apiKeyHelper" in world.run(project, "cat ~/.claude/settings.json").ok().out, "and so are settings"

    ended = asyncio.run(_eat(world, project))
    assert ended.code and ended.why is not None and ended.why.startswith("the machine ran out of memory"), ended

    world.sandbox("down", "--volumes", cwd=project).ok()
    assert Layout.from_environment(os.environ).all_kept(project) == []


async def _eat(world: World, project: Path) -> End:
    """An agent that takes more memory than the machine has."""
    control = Layout.from_environment(os.environ).instance("comfort").sockets.control
    argv = ["python3", "-c", "all = []\nwhile True: all.append(b'x' * (16 << 20))"]
    async with await connect(control) as guest:
        return await run_agent(guest, AgentCall(["agent"], "agent"), argv, "/", 240.0, lambda data: None)
