"""`run`: one task for an agent, in a machine of its own that is gone afterwards."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.agents import load_agent
from engine.agents.definition import AgentDefinition
from engine.agents.headless import headless_command, read_answer
from engine.errors import EngineError
from engine.lifecycle.audience import Audience
from engine.lifecycle.changed_files import changed_between, look_at
from engine.lifecycle.down import take_down
from engine.lifecycle.journal import journal_lines
from engine.lifecycle.members import Members
from engine.lifecycle.unneeded import unneeded_by
from engine.lifecycle.up import Agreed, carry_out
from engine.state.instances import AgentCall, Instance, look_up
from engine.state.layout import Layout
from vmm.channel.client import connect
from vmm.channel.guest import OUTPUT_LIMIT

TIMED_OUT = 124  # the exit code of `timeout`, too


@dataclass(frozen=True)
class Task:
    """What the agent is to do, within `timeout_s` seconds of its start. With `keep` the machine stays."""

    prompt: str
    timeout_s: float
    keep: bool = False


@dataclass(frozen=True)
class Done:
    """How a task went.

    `code` is the agent's exit code, 124 when its time was over, and 1 when it says itself that it has failed. `result`
    is its answer in words, `usage` what it says about the models' use, `changed` the files of the workspace that are
    different now (None: too many to look at), `refused` the hosts that it has asked for in vain.
    """

    agent: str
    version: str
    sandbox: str
    code: int
    result: str
    seconds: float
    usage: Any
    session: str | None
    refused: tuple[str, ...]
    changed: tuple[str, ...] | None

    def to_json(self) -> dict[str, Any]:
        """`version` is that of this shape."""
        return {
            "version": 1,
            "agent": {"name": self.agent, "version": self.version},
            "sandbox": self.sandbox,
            "exit": self.code,
            "result": self.result,
            "seconds": round(self.seconds, 3),
            "usage": self.usage,
            "session": self.session,
            "refused": list(self.refused),
            "changed": None if self.changed is None else list(self.changed),
        }


def name_of_run(name: str) -> str:
    """A name for the machine of one task of the sandbox `name`; many tasks may run at once."""
    return f"{name[:48]}-run-{secrets.token_hex(3)}"


def agent_of(members: Members) -> tuple[AgentDefinition, str]:
    """The agent of the one sandbox, and its version. Raises EngineError (exit code 2) where there is none to run."""
    if len(members.each) != 1:
        names = ", ".join(str(member.loaded.agent_name) for member in members.each)
        raise EngineError("the file has several agents", hint=f"name one of {names}", exit_code=2)
    agent = members.each[0].loaded.sandbox.agent
    if agent is None or agent.use is None:
        hint = "write `agent: {use: claude-code}`, or another that `sandbox init --list` shows"
        raise EngineError("the file names no agent that is known to work without a terminal", hint=hint, exit_code=2)
    definition = load_agent(agent.use)
    return definition, agent.version or definition.install.version


async def run_task(
    plan: Agreed, task: Task, layout: Layout, audience: Audience, on_stderr: Callable[[bytes], None]
) -> Done:
    """Bring the machine up, have the agent do the task, and take the machine down again, whatever happens.

    Waits as `up` does, and `task.timeout_s` for the agent. `on_stderr` gets what the agent prints there. Raises
    EngineError, SandboxfileError and VmmError; cancelled, it takes down what has been started.
    """
    (intent,) = plan.intents
    definition, version = agent_of(Members(intent.member.loaded, (intent.member,)))
    agent = intent.member.loaded.sandbox.agent
    assert agent is not None, "agent_of has found one"
    argv = headless_command(definition, task.prompt, agent.args)
    try:
        (outcome,) = await carry_out(plan, audience)
        instance = outcome.instance
        assert instance.agent is not None, "the file has one"
        mounts = [mount["source"] for mount in instance.mounts[:1]]
        before = await asyncio.to_thread(look_at, mounts)
        began = time.monotonic()
        code, output = await _exec(layout, instance, instance.agent, argv, task.timeout_s, on_stderr)
        seconds = time.monotonic() - began
        after = await asyncio.to_thread(look_at, mounts)
        lines = journal_lines(layout.instance(instance.name).journal, refused=True)
        refused = {str(line.get("host")) for line in lines}
    finally:
        if not task.keep:
            await asyncio.shield(take_down(layout, look_up(layout, intent.name)))
    answered = read_answer(definition.commands, output)
    unneeded = unneeded_by(definition)
    return Done(
        definition.name,
        version,
        intent.name,
        code or int(answered.failed),
        answered.text,
        seconds,
        answered.usage,
        answered.session,
        tuple(sorted(host for host in refused if not unneeded.has(host))),
        tuple(changed_between(before, after)) if before.whole and after.whole else None,
    )


async def _exec(
    layout: Layout,
    instance: Instance,
    agent: AgentCall,
    argv: list[str],
    timeout_s: float,
    on_stderr: Callable[[bytes], None],
) -> tuple[int, str]:
    kept = bytearray()

    def take(stream: str, data: bytes) -> None:
        if stream == "stderr":
            on_stderr(data)
        elif len(kept) < OUTPUT_LIMIT:
            kept.extend(data)

    async with await connect(layout.instance(instance.name).sockets.control) as guest:
        try:
            async with asyncio.timeout(timeout_s):
                done = await guest.run(
                    argv,
                    user=agent.user,
                    cwd=instance.working_directory,
                    env=agent.env,
                    timeout_s=2 * timeout_s + 60,
                    on_output=take,
                    keep=1,
                )
            code = done.code
        except TimeoutError:
            on_stderr(f"the agent was ended: it was not done within {timeout_s:g} s\n".encode())
            code = TIMED_OUT
    return code, kept.decode(errors="replace")
