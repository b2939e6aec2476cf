"""What one peer of a stream may send, and a store for what it sent. Sans I/O: all three readers of the wire share it.

The guest is not trusted. Whatever it sends and however long our side stands still, a stream holds one window of bytes.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from vmm.channel.errors import GuestError
from vmm.guest.guestd.wire import (
    CREDIT,
    DATA,
    EOF,
    MAX_PAYLOAD,
    MORE,
    RESULT,
    STDERR,
    WINDOW,
    Frame,
    credit_of,
    decode_object,
)

ANSWER_LIMIT = 1 << 20  # of a RESULT over all its frames: no operation of the guest needs a tenth of it
MANY_PIECES = 256


class Conduct:
    """Judges the frames of one answering peer. It may send DATA within its credit, CREDIT for what it was sent, one
    EOF, and one RESULT in whole frames; of anything else, and of any other size, `take` raises GuestError.
    """

    def __init__(self) -> None:
        self._may_send = WINDOW
        self._may_credit = 0
        self._ended = False
        self._message = bytearray()

    @property
    def held(self) -> int:
        """The bytes of a RESULT that has not come to its end."""
        return len(self._message)

    def credited(self, size: int) -> None:
        """The peer was told that it may send `size` bytes more."""
        self._may_send = min(WINDOW, self._may_send + size)

    def sent(self, size: int) -> None:
        """The peer was sent `size` bytes, and may give credit for as many."""
        self._may_credit += size

    def take(self, frame: Frame) -> bytes | None:
        """The whole message when `frame` is the end of a RESULT; None for every other lawful one."""
        size = len(frame.payload)
        if frame.kind == DATA:
            if frame.sub > STDERR or not size or self._ended:
                raise GuestError("the guest sent a frame that is against the rules", f"DATA of {size} bytes")
            self._may_send -= size
            if self._may_send < 0:
                raise GuestError("the guest sent more than it was allowed to")
        elif frame.kind == CREDIT:
            self._may_credit -= credit_of(frame)
            if not credit_of(frame) or self._may_credit < 0:
                raise GuestError("the guest sent a frame that is against the rules", "CREDIT for what it was not sent")
        elif frame.kind == EOF:
            if size or self._ended:
                raise GuestError("the guest sent a frame that is against the rules", f"EOF of {size} bytes")
            self._ended = True
        elif frame.kind == RESULT:
            return self._take_result(frame)
        else:
            raise GuestError("the guest sent a frame that is against the rules", f"a frame of kind {frame.kind}")
        return None

    def _take_result(self, frame: Frame) -> bytes | None:
        # Only the last frame may be short: empty ones could go on for ever.
        if frame.sub == MORE and len(frame.payload) < MAX_PAYLOAD:
            raise GuestError("the guest sent a frame that is against the rules", "part of a RESULT that is too short")
        if len(self._message) + len(frame.payload) > ANSWER_LIMIT:
            raise GuestError("the guest's answer is too long")
        self._message += frame.payload
        if frame.sub == MORE:
            return None
        message, self._message = bytes(self._message), bytearray()
        return message


def read_result(message: bytes) -> dict[str, Any]:
    """What a RESULT says was done. Raises GuestError: what it says has failed, or that it says nothing."""
    try:
        answer = decode_object(message)
    except ValueError as error:
        raise GuestError(f"the guest's answer cannot be read: {error}") from None
    result = answer.get("ok")
    if not isinstance(result, dict):
        raise GuestError.from_json(answer.get("error"))
    return result


class Backlog:
    """Bytes of sub-channels in the order in which they came. Many small pieces cost hardly more than a large one."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: deque[tuple[int, bytearray]] = deque()
        self._last: dict[int, bytearray] = {}

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def pieces(self) -> int:
        return len(self._pieces)

    def put(self, sub: int, data: bytes) -> None:
        self.size += len(data)
        newest = self._pieces[-1] if self._pieces else None
        if newest and newest[0] == sub and len(newest[1]) + len(data) <= MAX_PAYLOAD:
            newest[1].extend(data)
        elif len(self._pieces) >= MANY_PIECES and sub in self._last:
            # Single bytes of the one and the other in turn would take a hundred times their size: their order is lost.
            self._last[sub].extend(data)
        else:
            piece = bytearray(data)
            self._pieces.append((sub, piece))
            self._last[sub] = piece

    @property
    def first(self) -> int:
        """The sub-channel of what comes next."""
        return self._pieces[0][0]

    def peek(self, limit: int) -> bytes:
        """What comes next, at most `limit` bytes of it."""
        return bytes(memoryview(self._pieces[0][1])[:limit])

    def drop(self, size: int) -> None:
        """Forget so many bytes of what comes next."""
        sub, piece = self._pieces[0]
        self.size -= size
        if size < len(piece):
            del piece[:size]
            return
        self._pieces.popleft()
        if self._last[sub] is piece:
            del self._last[sub]

    def take(self, limit: int = MAX_PAYLOAD) -> tuple[int, bytes]:
        """The next (sub-channel, bytes)."""
        sub, data = self.first, self.peek(limit)
        self.drop(len(data))
        return sub, data

    def clear(self) -> None:
        self.size = 0
        self._pieces.clear()
        self._last.clear()
