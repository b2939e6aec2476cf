"""Reporters that write lines: all progress, failures only, or JSON."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Self, TextIO

from engine.report.events import EventReporter
from engine.report.noise import is_noise
from engine.report.text import Tails, clean_line


class _Lines:
    """Writes whole lines, each call in one write, so that nodes that run at once do not mix their lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._tails = Tails()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.flush()

    def write(self, *lines: str) -> None:
        text = "".join(f"{line}\n" for line in lines)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with self._lock:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()

    def _failure(self, node: str, message: str, seconds: float) -> list[str]:
        tail = [f"    {line}" for line in self._tails.take(node)]
        head = [f"[{node}] failed after {seconds:.1f} s: {clean_line(message)}"]
        return [*head, f"[{node}] its last lines:", *tail] if tail else head


class PlainReporter(_Lines):
    """Writes each line as it comes, as `[node] line`, except those that only say that something goes on.

    These are counted at the end of their node. They are among its last lines when it fails, and JSON has them all.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._left_out: Counter[str] = Counter()

    def node_started(self, node: str, title: str) -> None:
        self.write(f"[{node}] {clean_line(title)} ...")

    def node_line(self, node: str, line: str) -> None:
        self._tails.add(node, cleaned := clean_line(line))
        if is_noise(cleaned):
            self._left_out[node] += 1
        else:
            self.write(f"[{node}] {cleaned}")

    def node_waiting(self, node: str, message: str) -> None:
        self.write(f"[{node}] waiting: {clean_line(message)}")

    def node_finished(self, node: str, seconds: float) -> None:
        self._tails.take(node)
        count = self._left_out.pop(node, 0)
        left_out = f", without {count} line{'s' * (count > 1)} of unpacking and progress" if count else ""
        self.write(f"[{node}] done in {seconds:.1f} s{left_out}")

    def node_failed(self, node: str, message: str, seconds: float) -> None:
        self.write(*self._failure(node, message, seconds))

    def node_skipped(self, node: str, reason: str) -> None:
        self.write(f"[{node}] {clean_line(reason)}")

    def note(self, text: str) -> None:
        self.write(*(clean_line(line) for line in text.splitlines()))


class QuietReporter(_Lines):
    """Writes failures only, each with the last lines of its node."""

    def node_started(self, node: str, title: str) -> None:
        pass

    def node_line(self, node: str, line: str) -> None:
        self._tails.add(node, clean_line(line))

    def node_waiting(self, node: str, message: str) -> None:
        pass

    def node_finished(self, node: str, seconds: float) -> None:
        self._tails.take(node)

    def node_failed(self, node: str, message: str, seconds: float) -> None:
        self.write(*self._failure(node, message, seconds))

    def node_skipped(self, node: str, reason: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class JsonReporter(EventReporter):
    """Writes one JSON object on each line: {"event": ..., ...}. ASCII only."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = _Lines(stream)
        super().__init__(lambda event: self._lines.write(json.dumps(event)))

    def __exit__(self, *exc: object) -> None:
        self._lines.__exit__(*exc)
