"""A store for what the peer of a stream sent and nobody has taken yet."""

from __future__ import annotations

from collections import deque

from vmm.guest.guestd.wire import MAX_PAYLOAD

MANY_PIECES = 256


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
