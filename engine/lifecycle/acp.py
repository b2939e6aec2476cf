"""`acp`: the agent of a sandbox, spoken to by an editor of this host."""

from __future__ import annotations

import asyncio
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


def acp_command(loaded: Loaded) -> list[str]:
    """What has the file's agent speak the protocol. Raises EngineError (exit code 2) for one that does not."""
    agent = loaded.sandbox.agent
    definition = load_agent(agent.use) if agent is not None and agent.use is not None else None
    if agent is None or definition is None or definition.commands.acp is None:
        what = definition.title if definition is not None else "the agent of this file"
        hint = "opencode, gemini and copilot do: `agent: {use: opencode}`"
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
    agent = instance.agent
    assert agent is not None, "the file has one"
    async with (
        await connect(control) as channel,
        channel.open_exec(argv, user=agent.user, cwd=instance.working_directory, env=agent.env, stdin=True) as command,
    ):
        return await converse(Conversation(places_of(instance)), editor, to_editor, command, on_stderr, say)


def places_of(instance: Instance) -> Places:
    """The live mounts of a sandbox."""
    return Places(instance.name, [Place(mount["source"], mount["target"]) for mount in instance.mounts])
