"""`acp`: the agent of a sandbox, spoken to by an editor of this host."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.acp.messages import Conversation
from engine.acp.places import Place, Places
from engine.acp.session import Send, converse
from engine.agents import load_agent
from engine.errors import EngineError
from vmm.channel.client import connect

if TYPE_CHECKING:
    from engine.state.instances import Instance
    from sandboxfile import Loaded


USER = "agent"


def acp_command(loaded: Loaded, given: str | None = None) -> list[str]:
    """What speaks the protocol in the guest: the words of `given`, else what the file's agent says of itself.

    Raises EngineError (exit code 2) for an agent that says nothing, and for words that are none.
    """
    agent = loaded.sandbox.agent
    if given is not None:
        try:
            words = shlex.split(given)
        except ValueError as error:
            raise EngineError(f"the command cannot be read: {error}", exit_code=2) from None
        if not words:
            raise EngineError("the command is empty", exit_code=2)
        return words
    definition = load_agent(agent.use) if agent is not None and agent.use is not None else None
    if agent is None or definition is None or definition.commands.acp is None:
        what = definition.title if definition is not None else "the agent of this file"
        hint = "codex, copilot, gemini and opencode do; for others `setup` can install an adapter for --command"
        raise EngineError(f"{what} does not speak the Agent Client Protocol by itself", hint=hint, exit_code=2)
    return [*definition.commands.acp, *agent.args]


async def speak_acp(
    control: Path,
    instance: Instance,
    argv: Sequence[str],
    editor: asyncio.StreamReader,
    to_editor: Send,
    on_stderr: Callable[[bytes], None],
    say: Callable[[str], None],
) -> int:
    """Start the agent in the sandbox behind `control`, and pass messages on until one side ends; its exit code.

    Waits as `converse` does. Raises EngineError and GuestError.
    """
    user, env = (instance.agent.user, instance.agent.env) if instance.agent else (USER, {})
    async with (
        await connect(control) as channel,
        channel.open_exec(argv, user=user, cwd=instance.working_directory, env=env, stdin=True) as command,
    ):
        return await converse(Conversation(places_of(instance)), editor, to_editor, command, on_stderr, say)


def places_of(instance: Instance) -> Places:
    """The live mounts of a sandbox."""
    return Places(instance.name, [Place(mount["source"], mount["target"]) for mount in instance.mounts])
