"""Ending commands that nobody wants any more, with all that they have started."""

from __future__ import annotations

import time
from collections.abc import Callable

from .command import Process
from .process import scan_sessions, signal_groups

KILL_AFTER_S = 3.0  # between TERM and KILL
REAP_EVERY_S = 0.1


class Burial:
    """Ends each session: TERM to all of it, later KILL, and only then is its pid let go of.

    `call_later` is the loop's: (delay in seconds, action).
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], None]) -> None:
        self.dying: list[Process] = []
        self._call_later = call_later
        self._reaping = False

    def add(self, process: Process) -> None:
        self.dying.append(process)
        if not self._reaping:
            self._reaping = True
            self._call_later(0, self._reap)

    def _reap(self) -> None:
        sessions = scan_sessions()
        now = time.monotonic()
        self.dying = [process for process in self.dying if not self._is_gone(process, sessions, now)]
        self._reaping = bool(self.dying)
        if self.dying:
            self._call_later(REAP_EVERY_S, self._reap)

    def _is_gone(self, process: Process, sessions: dict[int, set[int]], now: float) -> bool:
        groups = sessions.get(process.pid, set())
        if not groups:
            return process.reap()
        if process.kill_at is None or now >= process.kill_at:
            signal_groups(groups, kill=process.kill_at is not None)
            process.kill_at = now + KILL_AFTER_S
        return False
