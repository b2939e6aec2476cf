"""One conversation of the multiplex, from the side that asks, and its mirror for a side that answers on the host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from vmm.channel.conduct import ANSWER_LIMIT, Backlog, Conduct, read_result
from vmm.channel.errors import GuestError
from vmm.guest.guestd.wire import (
    CLOSE,
    CONTROL,
    CREDIT,
    DATA,
    EOF,
    MAX_PAYLOAD,
    RESULT,
    WINDOW,
    Frame,
    credit_of,
    encode_credit,
    encode_frame,
    encode_message,
)

Write = Callable[[bytes], None]
Drain = Callable[[], Awaitable[None]]


class Stream:
    """Chunks both ways under credit, then one result. Holds at most WINDOW unread bytes, whatever the peer sends.

    `write` takes encoded frames and never blocks; `drain` waits while the connection is full.
    """

    def __init__(self, number: int, write: Write, drain: Drain) -> None:
        self.number = number
        self.on_end: Callable[[], None] = lambda: None
        self._write = write
        self._drain = drain
        self._conduct = Conduct()
        self._backlog = Backlog()
        self._uncredited = 0  # bytes that the owner has received and the peer does not know of
        self._credit = WINDOW
        self._changed = asyncio.Event()
        self._result: dict[str, Any] | None = None
        self._error: GuestError | None = None

    @property
    def ended(self) -> bool:
        """No more will come from the peer (chunks may still wait to be read)."""
        return self._result is not None or self._error is not None

    @property
    def held(self) -> int:
        """The bytes that wait for the owner."""
        return self._backlog.size

    # from the connection

    def accept(self, frame: Frame) -> None:
        if self.ended:
            return
        try:
            message = self._conduct.take(frame)
        except GuestError as error:
            self._break_off(error)
            return
        if frame.kind == DATA:
            self._backlog.put(frame.sub, frame.payload)
        elif frame.kind == CREDIT:
            self._credit = min(WINDOW, self._credit + credit_of(frame))
        elif message is not None:
            self._conclude(message)
        self._changed.set()

    def lose(self, error: GuestError) -> None:
        """The connection is gone."""
        if not self.ended:
            self._error = error
            self._changed.set()

    def _conclude(self, message: bytes) -> None:
        try:
            self._result = read_result(message)
        except GuestError as error:
            self._error = error
        self.on_end()

    def _break_off(self, error: GuestError) -> None:
        self._write(encode_frame(self.number, CLOSE))
        self._error = error
        self._changed.set()
        self.on_end()

    # for the owner

    async def receive(self) -> tuple[int, bytes] | None:
        """The next (sub-channel, bytes); None when the peer has sent its result. Raises GuestError when it failed."""
        while not self._backlog:
            if self._error:
                raise self._error
            if self.ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        sub, data = self._backlog.take()
        self._uncredited += len(data)
        # Not for each chunk: a peer that sends single bytes and reads nothing would pile our answers up.
        if self._uncredited >= WINDOW // 4 and not self.ended:
            self._conduct.credited(self._uncredited)
            self._write(encode_credit(self.number, self._uncredited))
            self._uncredited = 0
        return sub, data

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        while (chunk := await self.receive()) is not None:
            yield chunk

    async def result(self) -> dict[str, Any]:
        """The result, once it is there; chunks on the way are thrown away. Raises GuestError."""
        while await self.receive() is not None:
            pass
        assert self._result is not None
        return self._result

    async def send(self, data: bytes, sub: int = 0) -> None:
        """Send all of `data`, waiting for credit. What the peer no longer wants is dropped in silence."""
        view = memoryview(data)
        while view and not self.ended:
            if not self._credit:
                self._changed.clear()
                await self._changed.wait()
                continue
            size = min(len(view), self._credit, MAX_PAYLOAD)
            self._credit -= size
            self._conduct.sent(size)
            self._write(encode_frame(self.number, DATA, sub, bytes(view[:size])))
            view = view[size:]
            await self._drain()

    def send_eof(self) -> None:
        if not self.ended:
            self._write(encode_frame(self.number, EOF))

    def control(self, **request: Any) -> None:
        if not self.ended:
            self._write(encode_frame(self.number, CONTROL, 0, json.dumps(request).encode()))

    def close(self) -> None:
        """Want no more of it: the peer ends what runs. A second call, or one after the result, does nothing."""
        if not self.ended:
            self._break_off(GuestError("closed by this side"))


class LocalStream(Stream):
    """The answering side, for operations that the supervisor handles itself: send chunks, then one result."""

    def accept(self, frame: Frame) -> None:
        # Of a client, which is ours: it takes chunks, and has none of its own.
        if frame.kind == CREDIT:
            self._credit = min(WINDOW, self._credit + credit_of(frame))
            self._changed.set()

    def answer(self, result: dict[str, Any]) -> None:
        if not self.ended:
            message = json.dumps({"ok": result}).encode()
            if len(message) > ANSWER_LIMIT:
                self.fail(GuestError("the answer is too long"))
                return
            self._write(encode_message(self.number, RESULT, message))
            self._result = result

    def fail(self, error: GuestError) -> None:
        if not self.ended:
            self._write(encode_message(self.number, RESULT, json.dumps(error.to_json()).encode()))
            self._error = error
