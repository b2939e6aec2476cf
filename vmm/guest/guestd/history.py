"""The last output of a terminal: for those who are behind, and for a new one to begin with."""

from __future__ import annotations

import re

from .modes import ALTERNATE, SEQUENCE

KEPT = 1 << 18  # bytes; so much later than the first of its readers another one may read
REPLAYED = 48 << 10  # bytes that a new terminal begins with

# What a terminal would answer: the program asked long ago, and would take the answer for keys. And strings (titles,
# the clipboard, pictures), which were for the terminals of that time.
_ASKS = re.compile(
    rb"\x1b(?:\[[0-9;?>=!]*[ $'\"]?[cnpqtx]|\[\?[0-9;]*u|Z"
    rb"|[P\]X^_](?:[^\x07\x1b]|\x1b(?!\\))*(?:\x07|\x1b\\))|\x05"
)
_BEGINNINGS = re.compile(
    rb"\x1b(?:\[[23]J|c|\[\?(?:[0-9]{1,4};)*(?:%s)l)" % b"|".join(b"%d" % number for number in ALTERNATE)
)


class History:
    """Bytes by their places: the first one that the program printed is at 0."""

    def __init__(self) -> None:
        self.end = 0
        self._kept = bytearray()

    @property
    def start(self) -> int:
        """The first place that is still there."""
        return self.end - len(self._kept)

    def append(self, data: bytes) -> None:
        self._kept += data
        self.end += len(data)
        if len(self._kept) > KEPT + KEPT // 4:  # not at each append: that may move them all
            del self._kept[:-KEPT]

    def read(self, place: int, limit: int) -> bytes:
        """What is at `place`, which is not before the start."""
        at = place - self.start
        with memoryview(self._kept) as kept:
            return bytes(kept[at : at + limit])

    def replay(self) -> bytes:
        """The last lines for a terminal that has not seen them: since the screen was cleared or a program left one of
        its own. Without whatever the terminal would answer, and without modes, which `Modes.on` knows better.
        """
        text = bytes(self._kept[-REPLAYED:])
        if begun := list(_BEGINNINGS.finditer(text))[-1:]:
            text = text[begun[0].start() if begun[0][0].endswith(b"J") else begun[0].end() :]
        elif len(text) < self.end:
            text = text.partition(b"\n")[2]  # the first line is half of one
        return SEQUENCE.sub(b"", _ASKS.sub(b"", text))
