"""How many streams a guest may cancel: each costs us a request to the server, and costs the guest nothing.

A client cancels now and then for as long as its connection lives, so what counts is how many come together.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

_MOST = 1000
_PER_S = 10.0  # so many are forgotten each second


class Resets:
    """Of one connection. `clock` says the time, in seconds."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: monotonic())
        self._count = 0.0
        self._then = self._clock()

    def too_many(self) -> bool:
        """Count one more: whether that is more than a client needs."""
        now = self._clock()
        self._count = max(0.0, self._count - (now - self._then) * _PER_S) + 1
        self._then = now
        return self._count > _MOST
