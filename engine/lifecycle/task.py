"""`run`: one task for an agent, in a machine of its own that is gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.agents import load_agent
from engine.agents.definition import AgentDefinition
from engine.agents.headless import headless_command, read_answer, unsaid
from engine.clones.comparison import compare
from engine.errors import EngineError
from engine.lifecycle.audience import Audience
from engine.lifecycle.changed_files import changed_between, look_at
from engine.lifecycle.clones import look_at_clones, scratch
from engine.lifecycle.down import take_down
from engine.lifecycle.journal import journal_lines
from engine.lifecycle.members import Members
from engine.lifecycle.task_end import run_agent
from engine.lifecycle.unneeded import unneeded_by
from engine.lifecycle.up import Agreed, carry_out
from engine.state.instances import load_instance, look_up
from engine.state.layout import Layout
from vmm.channel.client import connect
from vmm.errors import VmmError

KEEP_S = 10.0  # for a supervisor to take notice


@dataclass(frozen=True)
class Task:
    """What the agent is to do, within `timeout_s` seconds of its start.

    With `keep` the machine stays, with `keep_on_failure` where the agent has failed.
    """

    prompt: str
    timeout_s: float
    keep: bool = False
    keep_on_failure: bool = False


@dataclass(frozen=True)
class Done:
    """How a task went.

    `code` is the agent's exit code, 124 when its time was over, and 1 when it says itself that it has failed. `result`
    is its answer in words, `usage` what it says about the models' use, `changed` the files of the workspace that are
    different now (None: too many to look at), `refused` the hosts that it has asked for in vain. `why` says in one line
    what went wrong, with the agent's `last_words`; None where nothing did. `kept`: the machine is still there. `diff`
    is what was changed in private copies, for `git apply`; None where there are none.
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
    why: str | None = None
    last_words: tuple[str, ...] = ()
    kept: bool = False
    diff: str | None = None

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
            "why": self.why,
            "last_words": list(self.last_words),
            "kept": self.kept,
            "diff": self.diff,
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
    plan: Agreed,
    task: Task,
    layout: Layout,
    audience: Audience,
    on_stderr: Callable[[bytes], None],
    starting: asyncio.Lock | None = None,
) -> Done:
    """Bring the machine up, have the agent do the task, and take the machine down again, whatever happens.

    Waits as `up` does, and `task.timeout_s` for the agent. `on_stderr` gets what the agent prints there. `starting` is
    held while the machine is brought up. Raises EngineError, SandboxfileError and VmmError; cancelled, it takes down
    what has been started.
    """
    (intent,) = plan.intents
    definition, version = agent_of(Members(intent.member.loaded, (intent.member,)))
    agent = intent.member.loaded.sandbox.agent
    assert agent is not None, "agent_of has found one"
    argv = headless_command(definition, task.prompt, agent.args)
    keep = task.keep
    has_started = False
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with starting or asyncio.Lock():
                (outcome,) = await carry_out(plan, audience)
            has_started = True
            await stack.enter_async_context(_tied(layout, intent.name))
            instance = outcome.instance
            assert instance.agent is not None, "the file has one"
            mounts = [mount["source"] for mount in instance.mounts[:1]]
            before = await asyncio.to_thread(look_at, mounts)
            async with await connect(layout.instance(instance.name).sockets.control) as guest:
                where = instance.working_directory
                end = await run_agent(guest, instance.agent, argv, where, task.timeout_s, on_stderr)
            if end.code:
                end = replace(end, why=_with_warnings(end.why, instance.warnings, _warnings(layout, instance.name)))
            after = await asyncio.to_thread(look_at, mounts)
            changed = tuple(changed_between(before, after)) if before.whole and after.whole else None
            diff = None
            if instance.clones:
                changed, diff = await _look_at_clones(layout, instance.name)
                keep = keep or diff is None  # else what was changed would be lost unseen
            refused = hosts_in_vain(journal_lines(layout.instance(instance.name).journal, refused=True))
            answered = read_answer(definition.commands, end.output)
            keep = keep or (task.keep_on_failure and bool(end.code or answered.failed))
        finally:
            if not keep:
                await asyncio.shield(take_down(layout, look_up(layout, intent.name)))
            elif has_started:
                keep = await asyncio.shield(_untie(layout, intent.name))
    unneeded = unneeded_by(definition)
    return Done(
        definition.name,
        version,
        intent.name,
        end.code or int(answered.failed),
        answered.text,
        end.seconds,
        answered.usage,
        answered.session,
        tuple(sorted(host for host in refused if not unneeded.has(host))),
        changed,
        end.why or ("it says itself that it has failed" if answered.failed else None),
        unsaid(answered, end.output, end.last_words),
        keep,
        diff,
    )


@contextlib.asynccontextmanager
async def _tied(layout: Layout, name: str) -> AsyncIterator[None]:
    """For the length of the block the sandbox ends with this process, also if that is killed. Raises VmmError."""
    async with await connect(layout.instance(name).sockets.control) as client:
        client.open_stream("tie", {})  # it ends with the connection
        yield


async def _untie(layout: Layout, name: str) -> bool:
    """Let the sandbox stay. Returns whether it does: it may have ended by itself."""
    try:
        async with await connect(layout.instance(name).sockets.control) as client:
            await client.call("tie", timeout_s=KEEP_S, keep=True)
    except (VmmError, OSError):
        return look_up(layout, name).liveness == "failed"  # then its logs are there
    return True


def _warnings(layout: Layout, name: str) -> list[str]:
    """What is wrong with the sandbox now. [] where nobody can say: the agent's answer is not to be lost for that."""
    with contextlib.suppress(EngineError, OSError):
        if (record := load_instance(layout, name)) is not None:
            return record.warnings
    return []


def _with_warnings(why: str | None, before: Collection[str], now: Iterable[str]) -> str | None:
    """What went wrong with the agent, and before it what the machine lacks since then: that may be the cause."""
    return "; ".join((*(warning for warning in now if warning not in before), *filter(None, (why,)))) or None


async def _look_at_clones(layout: Layout, name: str) -> tuple[tuple[str, ...] | None, str | None]:
    """The paths that were changed in private copies, and the diff; None where a broken guest does not say."""
    try:
        with scratch() as directory:
            _, found = await look_at_clones(layout, name, directory)
            paths = tuple(change.path for one in found for change in one.changes.found)
            texts = [compare(one.changes, one.changes.found) for one in found if one.changes.found]
            return paths, "".join(texts)
    except (EngineError, VmmError):
        return None, None


def hosts_in_vain(lines: Iterable[Mapping[str, Any]]) -> set[str]:
    """Those of refused connections. One that never said a name, such as one that was given up, asked for none."""
    return {host for line in lines if isinstance(host := line.get("host"), str)}
