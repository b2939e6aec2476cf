"""How much the peer of one HTTP/2 connection may send: its windows open again when what came has been taken.

The window of the connection begins with `LEAST`, which the protocol grants to everybody, and is widened only by what
the gateway's room has. Whatever the others hold, it opens again to that as soon as nothing of it waits any more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import h2.connection
import h2.exceptions

from engine.gateway.h2room import Share

LEAST = 65535  # bytes, that are in no room
_OPEN = 1 << 20  # of a connection whose bytes are taken as they come
_MOST = 16 << 20  # open, and not yet taken: so many streams that nobody reads hold up the others
_STEP = 16 << 10  # it opens by less only with the bytes of others: no frame for each byte that was taken

GONE = (h2.exceptions.ProtocolError, KeyError)  # the stream, or all of the connection, has ended meanwhile


class Windows:
    """Of one connection. `wake` is called when there is something to send."""

    def __init__(self, connection: h2.connection.H2Connection, share: Share, wake: Callable[[], None]) -> None:
        self._h2 = connection
        self._share = share
        self._wake = wake
        self._held = 0  # came, and nobody has taken it
        self._charged = 0
        self._opened = LEAST  # how wide it was when it was opened last: an idle connection stays with little
        self._ended = False

    def came(self, size: int) -> None:
        """So many bytes came, padding included, and wait to be taken."""
        self._held += size

    def taken(self, stream: int, size: int) -> None:
        """So many of them have been taken. Nothing opens when the stream, or the connection, is gone."""
        if not size:
            return
        self._held = max(0, self._held - size)
        if not self._ended:
            with suppress(*GONE):
                self._h2.acknowledge_received_data(size, stream)
            self._wake()
        self.open()

    def open(self) -> None:
        """Open the window of the connection, if it is half closed and there is room; otherwise as soon as there is."""
        if self._ended:
            self._charge(self._held)
            return
        self._charge(self._held + self._h2.inbound_flow_control_window - LEAST)
        window = self._h2.inbound_flow_control_window  # those who waited have been called meanwhile, us included
        if window > self._opened // 2:
            return
        wanted = min(_OPEN, _MOST - self._held)
        free = max(0, LEAST - self._held - window)
        missing = max(0, wanted - window - free)
        got = self._share.take(missing)
        if got < missing:
            self._share.room.wait(self.open)
        if free + got < _STEP:
            self._share.give(got)
            return
        try:
            self._h2.increment_flow_control_window(free + got)
        except GONE:
            self._share.give(got)
            return
        self._charged += got
        self._opened = window + free + got
        self._wake()

    def end(self) -> None:
        """The connection has ended. What came by it is still held, until it is taken."""
        self._ended = True
        self._share.room.leave(self.open)
        self.open()

    def _charge(self, size: int) -> None:
        """Have the share count what there is: less since something was taken, more where h2 has opened a window."""
        more = max(0, size) - self._charged
        self._charged += more
        if more > 0:
            self._share.add(more)
        elif more:
            self._share.give(-more)
