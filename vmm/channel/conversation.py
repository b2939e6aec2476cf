"""The asking end of one stream without its I/O: frames of the peer go in, frames for the peer come out.

What h11 is for HTTP: the streams of asyncio and the poll(2) loop of `sandbox exec` are both this, with descriptors.
"""

from __future__ import annotations

import json

from vmm.channel.backlog import Backlog
from vmm.channel.conduct import Conduct, read_result
from vmm.channel.errors import GuestError
from vmm.guest.guestd.wire import (
    CLOSE,
    CONTROL,
    CREDIT,
    DATA,
    EOF,
    OPEN,
    Frame,
    SendWindow,
    credit_of,
    encode_credit,
    encode_frame,
    encode_message,
    encode_request,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Conversation:
    """A request, then chunks both ways under credit, then one result or error.

    What comes waits in `backlog`, at most a window of bytes, whatever the peer sends. Each call returns the bytes that
    the peer is to get for it: none once the conversation has ended.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.backlog = Backlog()
        self.result: dict[str, Any] | None = None
        self.error: GuestError | None = None
        self._conduct = Conduct()
        self._sending = SendWindow()

    @property
    def ended(self) -> bool:
        """No more will come from the peer (chunks may still wait to be read)."""
        return self.result is not None or self.error is not None

    @property
    def is_silent(self) -> bool:
        """No more chunks will come from the peer, though it may still take some and has not sent its result."""
        return self.ended or self._conduct.ended

    @property
    def room(self) -> int:
        """The most that the next `data` may hold; 0 while the peer has given no credit."""
        return self._sending.room

    # from the peer

    def accept(self, frame: Frame) -> bytes:
        """Take a frame of the peer, which is not trusted: what is against the rules ends the conversation."""
        if self.ended:
            return b""
        try:
            message = self._conduct.take(frame)
        except GuestError as error:
            return self.close(error)
        if frame.kind == DATA:
            self.backlog.put(frame.sub, frame.payload)
        elif frame.kind == CREDIT:
            self._sending.grant(credit_of(frame))
        elif message is not None:
            try:
                self.result = read_result(message)
            except GuestError as error:
                self.error = error
        return b""

    def grant(self, size: int) -> None:
        """Credit of a peer that is ours."""
        self._sending.grant(size)

    def lose(self, error: GuestError) -> None:
        """The connection is gone."""
        if not self.ended:
            self.error = error

    # from the owner

    def open(self, op: str, request: dict[str, Any]) -> bytes:
        """Ask. Raises GuestError when the request is too long."""
        try:
            return encode_message(self.number, OPEN, encode_request(op, request))
        except ValueError as error:
            raise GuestError(f"{op}: {error}") from None

    def consumed(self, size: int) -> bytes:
        """The owner took `size` bytes of the backlog, so the peer may send more."""
        credit = 0 if self.ended else self._conduct.window.consume(size)
        return encode_credit(self.number, credit) if credit else b""

    def data(self, data: bytes, sub: int = 0) -> bytes:
        """Send all of `data`, which is at most as long as there is room."""
        self._sending.spend(len(data))
        self._conduct.sent(len(data))
        return self._say(DATA, sub, data)

    def eof(self) -> bytes:
        return self._say(EOF)

    def control(self, **request: Any) -> bytes:
        return self._say(CONTROL, 0, json.dumps(request).encode())

    def close(self, error: GuestError | None = None) -> bytes:
        """Want no more of it: the peer ends what runs. A second call, or one after the result, does nothing."""
        said = self._say(CLOSE)
        self.lose(error or GuestError("closed by this side"))
        return said

    def _say(self, kind: int, sub: int = 0, payload: bytes = b"") -> bytes:
        return b"" if self.ended else encode_frame(self.number, kind, sub, payload)
