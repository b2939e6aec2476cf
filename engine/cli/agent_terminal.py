"""This terminal in the agent's: `up` and `attach` join it, and the keys that detach leave it."""

from __future__ import annotations

import os
import sys

import click

from engine.errors import EngineError
from engine.lifecycle.open_asks import OpenAsks
from engine.lifecycle.sessions import NAME, AtWork, agent_at_work, is_another
from engine.state.instances import AgentCall, Instance
from engine.state.layout import Layout, habits_file
from vmm.channel.detach_keys import DetachKeys, parse_keys
from vmm.channel.session import Program, attach_session

# Docker's ctrl-p ctrl-q would hold each ctrl-p back, which is "the line before" in shells and agents, and OpenCode's
# palette of commands. No agent of `templates/` has ctrl-\, which dtach and abduco have for this, too.
DEFAULT_KEYS = "ctrl-\\,ctrl-d"
VARIABLE = "SANDBOX_DETACH_KEYS"


def chosen_keys(option: str | None) -> DetachKeys:
    """The keys of the option, else of the environment, else of the user's config.yaml, else the default.

    Raises click.UsageError for what are none, EngineError for a config.yaml that cannot be read, and SandboxfileError
    for its problems.
    """
    for text, where in ((option, "--detach-keys"), (os.environ.get(VARIABLE), VARIABLE)):
        if text:
            return _parsed(text, where)
    path = habits_file(os.environ)
    # Who has no such file does not wait for what reads it.
    if path.exists():
        from engine.lifecycle.own_habits import load_habits

        if text := load_habits(path).detach_keys:
            return _parsed(text, str(path))
    return parse_keys(DEFAULT_KEYS)


def _parsed(text: str, where: str) -> DetachKeys:
    try:
        return parse_keys(text)
    except ValueError as error:
        raise click.UsageError(f"{where}: {error}.") from None


def on_terminal() -> bool:
    """Whether a person sees what we print, and types what we read."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def join_agent(layout: Layout, instance: Instance, keys: DetachKeys, *, again: bool, read_only: bool = False) -> int:
    """Join this terminal to the agent's, whose program is started where it does not run; return its exit code.

    `again` is for a sandbox whose agent should be at work by now: then it is said that it is not. A terminal that
    detaches ends with 0. Raises EngineError where the sandbox has no agent, or, for `read_only`, where it does not run,
    and GuestError.
    """
    name, agent, control = instance.name, instance.agent, layout.instance(instance.name).sockets.control
    if agent is None:
        raise EngineError(
            f"the sandbox {name} has no agent",
            hint="`sandbox shell` opens a shell in it; `agent: {use: claude-code}` in the file would be an agent",
        )
    at_work = agent_at_work(control)
    if read_only and at_work.terminals is None:
        raise EngineError(f"the agent of {name} does not run", hint=f"`sandbox attach {name}` starts it")
    for line in _lines(name, agent, at_work, keys, again=again, read_only=read_only):
        click.echo(line, err=True)
    program = None if read_only else Program(agent.command, agent.user, instance.working_directory, agent.env)
    left = attach_session(
        control, NAME, program, detach_keys=keys.keys, read_only=read_only, notice=OpenAsks(layout, name).words
    )
    if left.detached:
        click.echo(f"detached; the agent goes on. `sandbox attach {name}` comes back", err=True)
    return left.code


def _lines(
    name: str, agent: AgentCall, at_work: AtWork, keys: DetachKeys, *, again: bool, read_only: bool
) -> list[str]:
    lines = []
    if at_work.terminals is None and at_work.code is not None:
        lines.append(f"the agent has ended (exit code {at_work.code}); it is started anew")
    elif at_work.terminals is None and again:
        lines.append("the agent was not started yet; it is started now")
    elif at_work.terminals:
        others = "one other terminal is" if at_work.terminals == 1 else f"{at_work.terminals} other terminals are"
        lines.append(f"{others} attached to the agent")
    if is_another(at_work, agent):
        lines.append("note: the agent was started with other settings; when it has ended, the new ones count")
    if read_only:
        lines.append(f"you only look: {keys.words if keys.keys else 'ctrl-c'} or ctrl-c leaves")
    elif keys.keys:
        lines.append(f"detach with {keys.words}; `sandbox attach {name}` comes back")
    return lines
