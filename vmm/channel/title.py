"""A title of ours for a terminal whose program has titles, too: written only between two of its sequences. Pure."""

from __future__ import annotations

import re

LONGEST = 2048  # bytes of a sequence that are kept until its end comes
SHOWN = 120  # characters of a title
_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\](?:(?P<kind>[02]);)?(?P<text>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    rb"|[PX^_](?:[^\x1b]|\x1b(?!\\))*(?:\x1b\\|(?P<open>\Z))|[ -/]*[0-OQ-WYZ`-~])"
)
_UNFINISHED = re.compile(rb"\x1b(?:[ -/]*|\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_](?:[^\x1b]|\x1b(?!\\))*\x1b?)\Z")
_STRING_ENDS = re.compile(rb"\x07|\x1b\\")
_HALF_CHARACTER = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")
# xterm and its like keep titles on a stack: the one that was there before comes back.
_KEEP, _RESTORE = b"\x1b[22;2t", b"\x1b[23;2t"


class Title:
    """Reads along what goes to the terminal, and says what to write between for a title of ours."""

    def __init__(self) -> None:
        self._rest = b""  # of a sequence, or a character, that has not ended
        self._long = False  # it is a string longer than we keep
        self._own: bytes | None = None  # the program's last title
        self._shown = ""
        self._overwritten = False

    def saw(self, data: bytes) -> None:
        """What was written to the terminal."""
        data = self._rest + data
        self._rest = b""
        if self._long:
            end = _STRING_ENDS.search(data)
            if end is None:
                self._rest = data[-1:]
                return
            self._long, data = False, data[end.end() :]
        position = 0
        for found in _SEQUENCE.finditer(data):
            if found["open"] is not None:  # whatever is in it is no sequence, and nobody looks at it twice
                position = found.start()
                break
            position = found.end()
            if found["kind"]:
                self._own, self._overwritten = found["text"], True
        start = data.find(b"\x1b", position)
        if start >= 0 and (half := _UNFINISHED.search(data, start)):
            self._rest = half[0]
            if len(self._rest) > LONGEST:
                self._rest, self._long = self._rest[-1:], True
        elif character := _HALF_CHARACTER.search(data[-4:]):
            self._rest = character[0]

    def show(self, text: str) -> bytes:
        """What to write now so that the title is `text`, and for "" what it was before.

        Nothing where it is that already, and in the middle of a sequence or a character: ask again after what comes.
        """
        text = "".join(character for character in text if character.isprintable())[:SHOWN]
        if self._rest or self._long or (text == self._shown and not (text and self._overwritten)):
            return b""
        before, self._shown, self._overwritten = self._shown, text, False
        if text:
            return (b"" if before else _KEEP) + _named(text.encode())
        return self._restored()

    def end(self) -> bytes:
        """What to write when nothing more comes: the title of before."""
        shown, self._shown = self._shown, ""
        return self._restored() if shown else b""

    def _restored(self) -> bytes:
        return _RESTORE + (b"" if self._own is None else _named(self._own))


def _named(text: bytes) -> bytes:
    return b"\x1b]2;" + text + b"\x07"
