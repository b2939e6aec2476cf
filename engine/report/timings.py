"""How long each phase of a command took."""

from __future__ import annotations

import time
from collections.abc import Callable


class Timings:
    """`begin` ends the phase before it. Seconds of wall time, since the object was made."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._phases: list[tuple[str, float]] = []

    def begin(self, title: str) -> None:
        self._phases.append((title, self._clock()))

    @property
    def seconds(self) -> float:
        """Since the object was made."""
        return self._clock() - self._began

    def rows(self) -> list[tuple[str, float]]:
        """(title, seconds) of each phase in their order; the last one is over now."""
        ends = [*(began for _, began in self._phases[1:]), self._clock()]
        return [(title, end - began) for (title, began), end in zip(self._phases, ends, strict=True)]

    def render(self) -> str:
        """A table with a line for each phase, and one for all of them."""
        from engine.report.columns import align

        rows = [*self.rows(), ("in all", self.seconds)]
        return align([(f"{seconds:8.3f} s", title) for title, seconds in rows]) + "\n"
