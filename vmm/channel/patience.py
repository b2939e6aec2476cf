"""When to stop waiting for a guest that was told of a signal."""

from __future__ import annotations

import signal

SILENCE_S = 10.0  # in which a living guest answers, however busy it is
SECOND_S = 2.0
SAME_S = 0.1  # `timeout` signals its command and then the command's group: one wish, told twice
INSISTING = (signal.SIGINT, signal.SIGTERM)


class Patience:
    """Counts the signals that were passed on, and the seconds since a guest was asked for a sign of life."""

    def __init__(self) -> None:
        self.number = 0  # of the signal after which it was asked
        self._last: float | None = None
        self._deadline: float | None = None

    def is_second(self, number: int, now: float) -> bool:
        """Whether this signal, an INT or TERM, comes soon after another: somebody insists."""
        if number not in INSISTING:
            return False
        if self._last is None or now - self._last > SECOND_S:
            self._last = now
            return False
        return now - self._last > SAME_S

    def begin(self, number: int, now: float) -> bool:
        """Wait for an answer from now on; False when that is so already."""
        if self._deadline is not None:
            return False
        self.number, self._deadline = number, now + SILENCE_S
        return True

    def end(self) -> None:
        """It has answered."""
        self._deadline = None

    def left(self, now: float) -> float | None:
        """The seconds that it still has; None while nothing is asked."""
        return None if self._deadline is None else max(0.0, self._deadline - now)
