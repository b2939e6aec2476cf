"""What comes back to the guest must not hold a secret's value: it is overwritten, by as many stars, as it passes."""

from __future__ import annotations

from collections.abc import Iterable

from engine.gateway.forms import SHORTEST  # also what may pass of a value that a pause cuts in two

_STAR = b"*"


class Redactor:
    """Sees one stream in pieces of any size. The length of what passes is the same.

    The end of a piece is held back only when it is the first eight bytes or more of a value, so that a server that
    pauses is not made to wait for. `found` says whether there was any.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = sorted({value for value in values if len(value) >= SHORTEST}, key=len, reverse=True)
        self._passed = b""  # the end of what has gone on, which a value may begin in
        self._held = b""
        self.found = False

    def __bool__(self) -> bool:
        return bool(self._values)

    @property
    def holds(self) -> bool:
        """Whether something is held back now."""
        return bool(self._held)

    def feed(self, data: bytes) -> bytes:
        """What may go on now."""
        if not self._values:
            return data
        before = len(self._passed)
        window = self._passed + self._held + data
        clean = self.clean(window)
        tail = self._tail(clean)
        keep = tail if tail >= SHORTEST else 0
        # What has gone on stays as it was sent: the guest has it, and a value that began in it ends in stars.
        end = max(before, len(clean) - keep)
        self._held = clean[end:]
        self._passed = clean[max(0, end - (tail - len(self._held))) : end] if tail > len(self._held) else b""
        return clean[before:end]

    def finish(self) -> bytes:
        """What was held back, at the end of the stream."""
        held, self._held = self._held, b""
        return held

    def cover(self) -> bytes:
        """Stars for what was held back, where others must not wait for what comes of it. The stream may go on."""
        held, self._held = self._held, b""
        self._passed = held or self._passed
        self.found = self.found or bool(held)
        return _STAR * len(held)

    def clean(self, data: bytes) -> bytes:
        """The same for a piece that is whole by itself, such as a header's value."""
        for value in self._values:
            if value in data:
                self.found = True
                data = data.replace(value, _STAR * len(value))
        return data

    def _tail(self, data: bytes) -> int:
        """The length of the longest end of the data that some value begins with."""
        longest = 0
        for value in self._values:
            at = data.find(value[:SHORTEST], max(0, len(data) - len(value) + 1))
            while at >= 0 and not value.startswith(data[at:]):
                at = data.find(value[:SHORTEST], at + 1)
            if at >= 0:
                longest = max(longest, len(data) - at)
                continue
            for size in range(min(SHORTEST - 1, len(data)), longest, -1):
                if data.endswith(value[:size]):
                    longest = size
                    break
        return longest
