"""Lines on their way to somebody who may take them slowly, or never."""

from __future__ import annotations

from collections import deque

LIMIT = 1 << 18  # characters: progress may be lost, memory may not
LONGEST = 4096  # of one line
TELLING = 40  # of the line that tells of others


class HeldLines:
    """Keeps the oldest lines, up to `limit` characters, and counts those for which there was no room."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.size = 0
        self._limit = limit
        self._lines: deque[str] = deque()
        self._left_out = 0

    def put(self, text: str) -> None:
        text = text[:LONGEST]
        if self.size + len(text) + (TELLING if self._left_out else 0) > self._limit:
            self._left_out += 1
            return
        if self._left_out:
            self._add(self._tell())
        self._add(text)

    def take(self) -> str | None:
        """The next line; None when there is none."""
        if self._lines:
            text = self._lines.popleft()
            self.size -= len(text)
            return text
        return self._tell() if self._left_out else None

    def _add(self, text: str) -> None:
        self._lines.append(text)
        self.size += len(text)

    def _tell(self) -> str:
        count, self._left_out = self._left_out, 0
        return f"... {count} line{'s' if count > 1 else ''} left out"
