"""The bytes between an editor and an agent: lines of JSON both ways, and what the agent prints beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from engine.acp.messages import Conversation, Passed, Refused
from engine.errors import EngineError

LONGEST_MESSAGE = 64 * 1024 * 1024  # bytes: an image in a prompt takes some
END_S = 5.0  # how long an agent may take to end after its editor has gone

Send = Callable[[bytes], Awaitable[None]]


class Agent(Protocol):
    """A command in the guest, as `vmm.channel.guest.ExecStream` has it."""

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]: ...

    async def write_stdin(self, data: bytes) -> None: ...

    def close_stdin(self) -> None: ...

    def close(self) -> None: ...

    async def wait(self) -> int: ...


class Messages:
    """Cuts bytes into lines. Raises EngineError for one that is longer than LONGEST_MESSAGE."""

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`, without blank ones."""
        *ended, rest = data.split(b"\n")
        if ended:
            ended[0] = b"".join([*self._pieces, ended[0]])
            self._pieces, self._size = [], 0
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
        if max(self._size, *map(len, ended), 0) > LONGEST_MESSAGE:
            raise EngineError(f"a message of {self._whose} is longer than {LONGEST_MESSAGE >> 20} MiB")
        return [line for line in ended if line.strip()]


async def converse(
    conversation: Conversation,
    editor: asyncio.StreamReader,
    to_editor: Send,
    agent: Agent,
    on_stderr: Callable[[bytes], None],
    say: Callable[[str], None],
) -> int:
    """Pass on messages until the agent ends, or END_S after the editor has gone; the agent's exit code.

    `on_stderr` gets what the agent prints beside its messages; `say` gets a line about what was not passed on. Raises
    GuestError and EngineError.
    """

    async def pass_on(judge: Callable[[bytes], Passed], line: bytes) -> None:
        try:
            passed = judge(line)
        except Refused as error:
            say(str(error))
            return
        if passed.said:
            say(passed.said)
        for data in passed.to_editor:
            await to_editor(data)
        for data in passed.to_agent:
            await agent.write_stdin(data)

    async def hear_editor() -> None:
        lines = Messages("the editor's")
        while data := await editor.read(1 << 16):
            for line in lines.feed(data):
                await pass_on(conversation.from_editor, line)
        agent.close_stdin()
        await asyncio.sleep(END_S)
        agent.close()

    async def hear_agent() -> int:
        lines = Messages("the agent's")
        async for stream, data in agent:
            if stream != 1:
                on_stderr(data)
                continue
            for line in lines.feed(data):
                await pass_on(conversation.from_agent, line)
        return await agent.wait()

    hearing = asyncio.create_task(hear_editor())
    answering = asyncio.create_task(hear_agent())
    try:
        await asyncio.wait({hearing, answering}, return_when=asyncio.FIRST_COMPLETED)
        if hearing.done():
            hearing.result()
        return await answering
    finally:
        for task in (hearing, answering):
            task.cancel()
        await asyncio.gather(hearing, answering, return_exceptions=True)
