"""What one peer of a stream may send. Sans I/O: all three readers of the wire share it.

The guest is not trusted. Whatever it sends and however long our side stands still, a stream holds one window of bytes.
"""

from __future__ import annotations

from vmm.channel.errors import GuestError
from vmm.guest.guestd.wire import (
    CREDIT,
    DATA,
    EOF,
    MAX_PAYLOAD,
    MORE,
    RESULT,
    STDERR,
    Assembly,
    Frame,
    ReceiveWindow,
    credit_of,
    decode_object,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANSWER_LIMIT = 1 << 20  # of a RESULT over all its frames: no operation of the guest needs a tenth of it


class Conduct:
    """Judges the frames of one answering peer. It may send DATA within its credit, CREDIT for what it was sent, one
    EOF, and one RESULT in whole frames; of anything else, and of any other size, `take` raises GuestError.
    """

    def __init__(self) -> None:
        self.window = ReceiveWindow()
        self._unacknowledged = 0  # bytes that the peer was sent and has given no credit for
        self.ended = False  # there will be no more DATA
        self._answer = Assembly(ANSWER_LIMIT)

    @property
    def held(self) -> int:
        """The bytes of a RESULT that has not come to its end."""
        return self._answer.held

    def sent(self, size: int) -> None:
        """The peer was sent `size` bytes, and may give credit for as many."""
        self._unacknowledged += size

    def take(self, frame: Frame) -> bytes | None:
        """The whole message when `frame` is the end of a RESULT; None for every other lawful one."""
        size = len(frame.payload)
        if frame.kind == DATA:
            if frame.sub > STDERR or not size or self.ended:
                raise _unlawful(f"DATA of {size} bytes")
            try:
                self.window.arrive(size)
            except ValueError:
                raise GuestError("the guest sent more than it was allowed to") from None
        elif frame.kind == CREDIT:
            self._unacknowledged -= credit_of(frame)
            if not credit_of(frame) or self._unacknowledged < 0:
                raise _unlawful("CREDIT for what it was not sent")
        elif frame.kind == EOF:
            if size or self.ended:
                raise _unlawful(f"EOF of {size} bytes")
            self.ended = True
        elif frame.kind == RESULT:
            return self._take_result(frame)
        else:
            raise _unlawful(f"a frame of kind {frame.kind}")
        return None

    def _take_result(self, frame: Frame) -> bytes | None:
        # Only the last frame may be short: empty ones could go on for ever.
        if frame.sub == MORE and len(frame.payload) < MAX_PAYLOAD:
            raise _unlawful("part of a RESULT that is too short")
        try:
            return self._answer.add(frame)
        except ValueError:
            raise GuestError("the guest's answer is too long") from None


def _unlawful(what: str) -> GuestError:
    return GuestError("the guest sent a frame that is against the rules", what)


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
