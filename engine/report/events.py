"""Progress as values, for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from engine.report.text import clean_line

Event = dict[str, Any]  # {"event": "started" | "line" | "waiting" | "finished" | "failed" | "skipped" | "note", ...}


class EventReporter:
    """A Reporter that passes each event to `hear`, in the thread in which it happens."""

    def __init__(self, hear: Callable[[Event], None]) -> None:
        self._hear = hear

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def node_started(self, node: str, title: str) -> None:
        self._hear({"event": "started", "node": node, "title": clean_line(title)})

    def node_line(self, node: str, line: str) -> None:
        self._hear({"event": "line", "node": node, "line": clean_line(line)})

    def node_waiting(self, node: str, message: str) -> None:
        self._hear({"event": "waiting", "node": node, "message": clean_line(message)})

    def node_finished(self, node: str, seconds: float) -> None:
        self._hear({"event": "finished", "node": node, "seconds": round(seconds, 3)})

    def node_failed(self, node: str, message: str, seconds: float) -> None:
        self._hear({"event": "failed", "node": node, "message": clean_line(message), "seconds": round(seconds, 3)})

    def node_skipped(self, node: str, reason: str) -> None:
        self._hear({"event": "skipped", "node": node, "reason": clean_line(reason)})

    def note(self, text: str) -> None:
        self._hear({"event": "note", "text": "\n".join(clean_line(line) for line in text.splitlines())})
