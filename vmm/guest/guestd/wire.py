"""The wire between host and guest, which both ends read from here.

Frames of an 18-byte header (magic, payload length, stream, kind, sub-channel, CRC of the header) and a payload of at
most 64 KiB. Each new host starts with `FLUSH` (a frame's worth of zeros: it completes whatever half frame its
predecessor left in the pipe) and a HELLO with a random nonce; it then throws away everything up to the HELLO_OK that
repeats the nonce. A HELLO with a new nonce ends all that the previous host had started; sessions go on (`session.py`).

A conversation: OPEN (`op`, newline, JSON) -> any number of DATA, EOF, CREDIT, CONTROL -> exactly one RESULT. DATA is
sent only against credit: each end of a stream may have WINDOW bytes on their way, and gets more by CREDIT as they are
consumed.

The host imports this module of guestd and `modes`, and no other; they load little, since each `sandbox exec` pays.
"""

from __future__ import annotations

import json
import struct
import zlib

TYPE_CHECKING = False  # as type checkers read it: importing typing would cost each `sandbox exec` 3 ms
if TYPE_CHECKING:
    from typing import Any

VERSION = "1"
PROTOCOL = 1

MAGIC = b"\xf5SBX"
MAX_PAYLOAD = 1 << 16
MAX_MESSAGE = 8 << 20  # an OPEN's or RESULT's JSON, over all its frames
WINDOW = 1 << 18  # bytes on their way per stream and direction
NONCE_SIZE = 16
MAX_CONNECTIONS = 512  # to ports of the guest; they are counted apart, so that a busy server keeps no command out

HELLO, HELLO_OK, RESTARTED, OPEN, DATA, EOF, CREDIT, CONTROL, RESULT, CLOSE = range(1, 11)
STDIN, STDOUT, STDERR = 0, 1, 2
MORE = 1  # sub-channel of an OPEN or RESULT whose JSON goes on in the next frame

_HEAD = struct.Struct(">4sIIBB")
_U32 = struct.Struct(">I")
HEADER_SIZE = _HEAD.size + _U32.size
FLUSH = bytes(HEADER_SIZE + MAX_PAYLOAD)


class Frame:
    """One unit of the wire; stream 0 is the connection itself."""

    __slots__ = ("kind", "payload", "stream", "sub")

    def __init__(self, stream: int, kind: int, sub: int = 0, payload: bytes = b"") -> None:
        self.stream, self.kind, self.sub, self.payload = stream, kind, sub, payload

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and self._values() == other._values()

    def __repr__(self) -> str:
        return f"Frame{self._values()}"

    def _values(self) -> tuple[int, int, int, bytes]:
        return self.stream, self.kind, self.sub, self.payload


def encode_frame(stream: int, kind: int, sub: int = 0, payload: bytes = b"") -> bytes:
    """The bytes of one frame; ValueError when the payload is above MAX_PAYLOAD."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"payload of {len(payload)} bytes")
    head = _HEAD.pack(MAGIC, len(payload), stream, kind, sub)
    return b"".join((head, _U32.pack(zlib.crc32(head)), payload))


def encode_message(stream: int, kind: int, message: bytes) -> bytes:
    """The frames of an OPEN or RESULT, cut where the message is longer than one payload."""
    cuts = range(0, max(len(message), 1), MAX_PAYLOAD)
    last = cuts[-1]
    return b"".join(
        encode_frame(stream, kind, 0 if at == last else MORE, message[at : at + MAX_PAYLOAD]) for at in cuts
    )


def encode_credit(stream: int, size: int) -> bytes:
    return encode_frame(stream, CREDIT, 0, _U32.pack(size))


def credit_of(frame: Frame) -> int:
    """The bytes that a CREDIT frame grants; 0 for a malformed one."""
    return int(_U32.unpack(frame.payload)[0]) if len(frame.payload) == _U32.size else 0


def encode_request(op: str, request: dict[str, Any]) -> bytes:
    """An OPEN's message. The name comes first so that a relay need not decode the rest; ValueError when too long."""
    message = op.encode() + b"\n" + json.dumps(request).encode()
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"request of {len(message)} bytes; at most {MAX_MESSAGE} are possible")
    return message


def decode_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; ValueError for anything else, however nested: the peer is not trusted."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


class Assembly:
    """The message of an OPEN or RESULT, put together from its frames."""

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._limit = limit
        self._parts = bytearray()

    @property
    def held(self) -> int:
        """The bytes of a message that has not come to its end."""
        return len(self._parts)

    def add(self, frame: Frame) -> bytes | None:
        """The whole message when `frame` is its last; else None. ValueError, and nothing is held, above the limit."""
        self._parts += frame.payload
        too_long = len(self._parts) > self._limit
        if frame.sub == MORE and not too_long:
            return None
        message, self._parts = bytes(self._parts), bytearray()
        if too_long:
            raise ValueError(f"a message of more than {self._limit} bytes")
        return message


class SendWindow:
    """How much one end of a stream may still send: a window of bytes, less what was sent, plus the peer's credit."""

    def __init__(self) -> None:
        self._room = WINDOW

    @property
    def room(self) -> int:
        """The most that the next DATA may hold; 0 while there is no credit."""
        return min(self._room, MAX_PAYLOAD)

    def spend(self, size: int) -> None:
        """So many bytes were sent."""
        self._room -= size

    def grant(self, size: int) -> None:
        """The peer gave credit for so many bytes. It cannot widen the window."""
        self._room = min(WINDOW, self._room + size)


class ReceiveWindow:
    """How much the peer of a stream may still send, and how much credit it is owed for what has been consumed."""

    def __init__(self) -> None:
        self._room = WINDOW
        self._owed = 0

    def arrive(self, size: int) -> None:
        """So many bytes came in; ValueError when the peer had no credit for them."""
        self._room -= size
        if self._room < 0:
            raise ValueError("more than the window allows")

    def consume(self, size: int, *, now: bool = False) -> int:
        """So many bytes have left our store. The credit to send for them and their like: 0 while it is not worth it.

        Credit for each chunk would pile up before a peer that sends single bytes and reads nothing; hence a quarter of
        the window at once, or `now` all that is owed.
        """
        self._owed += size
        if not now and self._owed < WINDOW // 4:
            return 0
        credit, self._owed = self._owed, 0
        self.give(credit)
        return credit

    def give(self, size: int) -> None:
        """The peer was given credit for so many bytes, by us or through us."""
        self._room = min(WINDOW, self._room + size)


class Decoder:
    """Bytes in, frames out, whatever the cuts. Garbage before a valid header is skipped and counted in `skipped`."""

    def __init__(self) -> None:
        self.skipped = 0
        self._buffer = bytearray()
        self._nonce = b""

    def expect(self, nonce: bytes) -> None:
        """Throw away everything until a HELLO_OK with this nonce: what came before was meant for another host."""
        self._nonce = nonce

    def feed(self, data: bytes) -> list[Frame]:
        buffer = self._buffer
        buffer += data
        if self._nonce and not self._synchronise():
            return []
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= HEADER_SIZE:
            head = self._head(at)
            if head is None:
                found = buffer.find(MAGIC, at + 1)
                found = found if found >= 0 else max(at + 1, len(buffer) - len(MAGIC) + 1)
                self.skipped += found - at
                at = found
                continue
            length, stream, kind, sub = head
            end = at + HEADER_SIZE + length
            if end > len(buffer):
                break
            frames.append(Frame(stream, kind, sub, bytes(buffer[at + HEADER_SIZE : end])))
            at = end
        del buffer[:at]
        return frames

    def _head(self, at: int) -> tuple[int, int, int, int] | None:
        buffer = self._buffer
        if not buffer.startswith(MAGIC, at):
            return None
        _, length, stream, kind, sub = _HEAD.unpack_from(buffer, at)
        crc = zlib.crc32(buffer[at : at + _HEAD.size])
        if length > MAX_PAYLOAD or _U32.unpack_from(buffer, at + _HEAD.size)[0] != crc:
            return None
        return length, stream, kind, sub

    def _synchronise(self) -> bool:
        buffer = self._buffer
        while (found := buffer.find(self._nonce)) >= 0:
            head = self._head(found - HEADER_SIZE) if found >= HEADER_SIZE else None
            if head and head[2] == HELLO_OK:
                del buffer[: found - HEADER_SIZE]
                self._nonce = b""
                self.skipped = 0
                return True
            del buffer[: found + 1]
        del buffer[: max(0, len(buffer) - HEADER_SIZE - NONCE_SIZE)]
        return False
