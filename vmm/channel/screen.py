"""The modes that a program in the guest has switched on in our terminal, to be switched off when it cannot do so."""

from __future__ import annotations

import contextlib
import os
import re

# Cursor keys, mouse, alternate screen, pasting in brackets, and what else turns a shell's line into riddles.
MODES = frozenset({1, 9, 45, 47, 66, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1047, 1049, 2004, 2026})
CURSOR = 25  # is on by itself: what is left behind is its absence
LONGEST = 64  # bytes of a sequence
_SWITCH = re.compile(rb"\x1b\[\?([0-9;]{1,48})([hl])")
_UNFINISHED = re.compile(rb"\x1b(\[(\?[0-9;]{0,48})?)?\Z")
_RESET = b"\x1bc"


class Screen:
    """Reads along what goes to a terminal."""

    def __init__(self) -> None:
        self._on: set[int] = set()
        self._rest = b""

    def saw(self, data: bytes) -> None:
        data = self._rest + data
        half = _UNFINISHED.search(data, max(0, len(data) - LONGEST))
        self._rest = half[0] if half else b""
        if b"\x1b" not in data:
            return
        if (at := data.rfind(_RESET)) >= 0:
            self._on.clear()
            data = data[at:]
        for numbers, switch in _SWITCH.findall(data):
            for word in numbers.split(b";"):
                number = int(word or 0)
                if number in MODES or number == CURSOR:
                    (self._on.add if (switch == b"h") != (number == CURSOR) else self._on.discard)(number)

    def restore(self, fd: int) -> None:
        """Switch off what is still on, if `fd` is a terminal, and let the text begin on a line of its own."""
        if not self._on or not os.isatty(fd):
            return
        words = [b"\x1b[?%d%c" % (number, b"h" if number == CURSOR else b"l") for number in sorted(self._on)]
        self._on.clear()
        with contextlib.suppress(OSError):
            os.write(fd, b"".join(words) + b"\x1b[0m\r\n")
