"""One conversation of the multiplex, from the side that asks, and its mirror for a side that answers on the host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from vmm.channel.conduct import ANSWER_LIMIT
from vmm.channel.conversation import Conversation
from vmm.channel.errors import GuestError
from vmm.guest.guestd.wire import CREDIT, RESULT, Frame, credit_of, encode_message

Write = Callable[[bytes], None]
Drain = Callable[[], Awaitable[None]]


class Stream:
    """Chunks both ways under credit, then one result. Holds at most WINDOW unread bytes, whatever the peer sends.

    `write` takes encoded frames and never blocks; `drain` waits while the connection is full.
    """

    def __init__(self, number: int, write: Write, drain: Drain) -> None:
        self.number = number
        self.on_end: Callable[[], None] = lambda: None
        self._conversation = Conversation(number)
        self._write = write
        self._drain = drain
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        """No more will come from the peer (chunks may still wait to be read)."""
        return self._conversation.ended

    @property
    def held(self) -> int:
        """The bytes that wait for the owner."""
        return self._conversation.backlog.size

    # from the connection

    def accept(self, frame: Frame) -> None:
        if not self.ended:
            self._proceed(self._conversation.accept(frame))

    def lose(self, error: GuestError) -> None:
        """The connection is gone."""
        self._conversation.lose(error)
        self._changed.set()

    def _proceed(self, frames: bytes) -> None:
        """After what may have ended the conversation."""
        if frames:
            self._write(frames)
        self._changed.set()
        if self.ended:
            self.on_end()

    # for the owner

    def open(self, op: str, request: dict[str, Any]) -> None:
        """Ask. Raises GuestError when the request is too long."""
        self._write(self._conversation.open(op, request))

    async def receive(self) -> tuple[int, bytes] | None:
        """The next (sub-channel, bytes); None when the peer sends no more. Raises GuestError when it failed."""
        conversation = self._conversation
        while not conversation.backlog:
            if conversation.error:
                raise conversation.error
            if conversation.is_silent:
                return None
            await self._change()
        sub, data = conversation.backlog.take()
        if credit := conversation.consumed(len(data)):
            self._write(credit)
        return sub, data

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        while (chunk := await self.receive()) is not None:
            yield chunk

    async def result(self) -> dict[str, Any]:
        """The result, once it is there; chunks on the way are thrown away. Raises GuestError."""
        while await self.receive() is not None:
            pass
        while not self.ended:
            await self._change()
        if self._conversation.error:
            raise self._conversation.error
        assert self._conversation.result is not None
        return self._conversation.result

    async def send(self, data: bytes, sub: int = 0) -> None:
        """Send all of `data`, waiting for credit. What the peer no longer wants is dropped in silence."""
        view = memoryview(data)
        while view and not self.ended:
            size = self._conversation.room
            if not size:
                await self._change()
                continue
            self._write(self._conversation.data(bytes(view[:size]), sub))
            view = view[size:]
            await self._drain()

    def send_eof(self) -> None:
        if not self.ended:
            self._write(self._conversation.eof())

    def control(self, **request: Any) -> None:
        if not self.ended:
            self._write(self._conversation.control(**request))

    def close(self) -> None:
        """Want no more of it: the peer ends what runs. A second call, or one after the result, does nothing."""
        if not self.ended:
            self._proceed(self._conversation.close())

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class LocalStream(Stream):
    """The answering side, for operations that the supervisor handles itself: send chunks, then one result."""

    def accept(self, frame: Frame) -> None:
        # Of a client, which is ours: it takes chunks, and has none of its own.
        if frame.kind == CREDIT:
            self._conversation.grant(credit_of(frame))
            self._changed.set()

    def answer(self, result: dict[str, Any]) -> None:
        if not self.ended:
            message = json.dumps({"ok": result}).encode()
            if len(message) > ANSWER_LIMIT:
                self.fail(GuestError("the answer is too long"))
                return
            self._write(encode_message(self.number, RESULT, message))
            self._conversation.result = result

    def fail(self, error: GuestError) -> None:
        if not self.ended:
            self._write(encode_message(self.number, RESULT, json.dumps(error.to_json()).encode()))
            self._conversation.error = error
