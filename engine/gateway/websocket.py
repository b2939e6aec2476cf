"""What a server says in WebSocket messages: a value that is cut in two by frames is found all the same (RFC 6455)."""

from __future__ import annotations

from collections import deque

from engine.gateway.answers import AnswerRefused, Incoming

_FINAL = 0x80
_CONTROL = 0x8
_LONGEST_CONTROL = 125  # bytes of a control frame
_RESERVED = 0x70  # extensions, of which none was agreed on
_MASKED = 0x80


class Frames:
    """One direction of a WebSocket, from the server: the payloads of data frames are one stream for `incoming`.

    What goes on has the same length and the same frames.
    """

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._head = bytearray()  # of a frame, incomplete
        self._left = 0  # bytes of the frame's payload that have not come
        self._control: bytearray | None = None  # the payload of a control frame
        self._final = False  # whether the data frame is the last of its message
        self._order: deque[bytes | int] = deque()  # heads, and how many bytes of payload come between them
        self._ready = bytearray()  # payload that may go on

    def feed(self, data: bytes) -> bytes:
        """What may go on now. Raises AnswerRefused for what is no frame, or is packed."""
        if not self._incoming:
            return data
        while data:
            if not self._left:
                data = self._take_head(data)
                continue
            payload, data = data[: self._left], data[self._left :]
            self._left -= len(payload)
            if self._control is None:
                self._order.append(len(payload))
                self._ready += self._incoming.feed(payload)
                if self._final and not self._left:
                    # The next message, a ping or the close must not wait for what another message brings.
                    self._ready += self._incoming.cover()
                continue
            self._control += payload
            if not self._left:
                self._order.append(self._incoming.clean(bytes(self._control)))
        return self._collect()

    def _take_head(self, data: bytes) -> bytes:
        """Returns what comes behind the head, or nothing while it is incomplete."""
        head = self._head
        while data and len(head) < _head_length(head):
            missing = _head_length(head) - len(head)
            head += data[:missing]
            data = data[missing:]
        if len(head) < 2:
            return b""
        if head[0] & _RESERVED or head[1] & _MASKED:
            raise AnswerRefused("a WebSocket frame that nobody can look into for the value of a secret")
        if len(head) < _head_length(head):
            return b""
        self._left = int.from_bytes(head[2:], "big") if len(head) > 2 else head[1]
        self._control = bytearray() if head[0] & _CONTROL else None
        if self._control is None:
            self._final = bool(head[0] & _FINAL)
        elif self._left > _LONGEST_CONTROL:
            raise AnswerRefused("a WebSocket control frame that is longer than one may be")
        self._order.append(bytes(head))
        head.clear()
        return data

    def _collect(self) -> bytes:
        out = bytearray()
        while self._order:
            first = self._order[0]
            if isinstance(first, bytes):
                out += first
            else:
                out += self._ready[:first]
                if len(self._ready) < first:
                    self._order[0] = first - len(self._ready)
                    self._ready.clear()
                    break
                del self._ready[:first]
            self._order.popleft()
        return bytes(out)


def _head_length(head: bytes | bytearray) -> int:
    return {126: 4, 127: 10}.get(head[1], 2) if len(head) > 1 else 2
