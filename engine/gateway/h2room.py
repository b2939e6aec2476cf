"""How much the HTTP/2 connections of one gateway may have on its way: windows that are open, and what came by them.

A guest that opens many connections and reads from none would otherwise have us hold a window's worth for each. Nobody
gets more than a part of what is left, so there is always some for the next.
"""

from __future__ import annotations

from collections.abc import Callable

_MOST = 128 << 20  # bytes, of all connections of one gateway
_PART = 8
_NEWS = 128  # the part of all that has to come back before those who wait are asked again


class Room:
    """`left` is how many bytes nobody has. It may fall below nothing, as windows of h2's own making are counted too."""

    def __init__(self, most: int = _MOST) -> None:
        self.left = most
        self._news = most // _NEWS
        self._returned = 0
        self._waiting: dict[Callable[[], None], None] = {}

    def share(self) -> Share:
        """For one connection of the guest, and for those to servers that it is relayed to."""
        return Share(self)

    def wait(self, ask_again: Callable[[], None]) -> None:
        """Have this called, once, when there is more."""
        self._waiting[ask_again] = None

    def leave(self, ask_again: Callable[[], None]) -> None:
        """It need not be called any more."""
        self._waiting.pop(ask_again, None)

    def put_back(self, size: int) -> None:
        """So many bytes are nobody's again. Those who wait hear of it here and now."""
        self.left += size
        self._returned += size
        if self._returned >= self._news:
            self._returned = 0
            waiting, self._waiting = self._waiting, {}
            for ask_again in waiting:
                ask_again()


class Share:
    """What somebody has of a room. After `end` it has nothing, and gets nothing."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._taken = 0
        self._ended = False

    def take(self, size: int) -> int:
        """As many of these bytes as it may have now."""
        size = max(0, min(size, self.room.left // _PART - self._taken))
        return self.add(size)

    def add(self, size: int) -> int:
        """Count bytes that are there already, whether it may have them or not. Returns how many."""
        if self._ended:
            return 0
        self._taken += size
        self.room.left -= size
        return size

    def give(self, size: int) -> None:
        """Return some of them."""
        size = min(size, self._taken)
        self._taken -= size
        if size:
            self.room.put_back(size)

    def end(self) -> None:
        """Return all of them."""
        self._ended = True
        self.give(self._taken)
