"""What a program has switched on in its terminal: to be switched off when it cannot do so, or on in another terminal.

The host imports this module, too. What it reads may be anything.
"""

from __future__ import annotations

import re

ALTERNATE = (47, 1047, 1049)
# Cursor keys, mouse, alternate screen, pasting in brackets, and what else turns a shell's line into riddles.
MODES = frozenset({1, 9, 45, 66, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2026, *ALTERNATE})
CURSOR = 25  # is on by itself: what is left behind is its absence
HELD_FRAME = 2026  # the terminal shows nothing until it ends: nobody begins one for somebody else
LONGEST = 64  # bytes of a sequence
DEEPEST = 16  # keyboards on the stack of one screen
# Modes, the keyboards of the kitty protocol, the key reports of xterm, the rows that scroll, the keypad, and a reset.
SEQUENCE = re.compile(
    rb"\x1b(?:\[\?(?P<modes>[0-9;]{1,48})(?P<switch>[hl])|\[(?P<stack>[<>=])(?P<flags>[0-9;]{0,16})u"
    rb"|\[>4(?P<keys>;[0-9])?m|\[(?P<rows>[0-9;]{0,16})r|(?P<pad>[=>])|(?P<reset>c))"
)
_UNFINISHED = re.compile(rb"\x1b(\[([?<>=]?[0-9;]{0,48})?)?\Z")


class Modes:
    """Reads along what goes to a terminal."""

    def __init__(self) -> None:
        self._rest = b""
        self._forget()

    def _forget(self) -> None:
        self._on: set[int] = set()
        self._keyboards: dict[bool, list[int]] = {False: [], True: []}  # of the alternate screen, and of the usual one
        self._keys = 0
        self._pad = self._scrolls = False

    @property
    def is_alternate(self) -> bool:
        """Whether the program shows a screen of its own, instead of lines among the others."""
        return not self._on.isdisjoint(ALTERNATE)

    def saw(self, data: bytes) -> None:
        data = self._rest + data
        half = _UNFINISHED.search(data, max(0, len(data) - LONGEST))
        self._rest = half[0] if half else b""
        if b"\x1b" in data:
            for found in SEQUENCE.finditer(data):
                self._take(found)

    def _take(self, found: re.Match[bytes]) -> None:
        if found["modes"]:
            for word in found["modes"].split(b";"):
                self._switch(int(word or 0), on=found["switch"] == b"h")
        elif found["stack"]:
            flags = [int(word or 0) for word in found["flags"].split(b";")]
            self._set_keyboard(found["stack"], flags[0])
        elif found["rows"] is not None:
            self._scrolls = bool(found["rows"])
        elif found["pad"]:
            self._pad = found["pad"] == b"="
        elif found["reset"]:
            self._forget()
        else:
            self._keys = int((found["keys"] or b";0")[1:])

    def _switch(self, number: int, *, on: bool) -> None:
        if number in MODES or number == CURSOR:
            (self._on.add if on != (number == CURSOR) else self._on.discard)(number)

    def _set_keyboard(self, how: bytes, flags: int) -> None:
        stack = self._keyboards[self.is_alternate]
        flags = min(flags, 31 if how != b"<" else DEEPEST)
        if how == b">":
            stack.append(flags)
            del stack[:-DEEPEST]
        elif how == b"<":
            del stack[len(stack) - min(max(flags, 1), len(stack)) :]
        else:
            stack[-1:] = [flags]

    def on(self) -> bytes:
        """The sequences that switch all of it on in a terminal where nothing is."""
        alternate = b"".join(_switched(number, on=True) for number in ALTERNATE if number in self._on)
        words = [_switched(number, on=number != CURSOR) for number in sorted(self._on - {HELD_FRAME, *ALTERNATE})]
        words += [b"\x1b[>%du" % flags for flags in self._keyboards[self.is_alternate]]
        words += [b"\x1b[>4;%dm" % self._keys] if self._keys else []
        words += [b"\x1b="] if self._pad else []
        return alternate + b"".join(words)

    def off(self) -> bytes:
        """The sequences that take it back; nothing when there is nothing. Afterwards nothing counts as on."""
        words = [_popped(self._keyboards[True])] if self.is_alternate else []
        words += [b"\x1b7\x1b[r\x1b8"] if self._scrolls else []
        words += [_switched(number, on=number == CURSOR) for number in sorted(self._on)]
        words += [_popped(self._keyboards[False])]
        words += [b"\x1b[>4m"] if self._keys else []
        words += [b"\x1b>"] if self._pad else []
        self._forget()
        return b"".join(words)


def _switched(number: int, *, on: bool) -> bytes:
    return b"\x1b[?%d%c" % (number, b"h" if on else b"l")


def _popped(stack: list[int]) -> bytes:
    return b"\x1b[<%du" % len(stack) if stack else b""
