"""Taking values out of texts on their way to logs, events, errors and terminals.

Taken out are a value as it is; what URLs, JSON, HTML, a shell and Python's `repr` make of it, also one within the
other; its base64 in both alphabets, wherever in a longer text it was encoded (`user:VALUE`); and its hexadecimal
digits. This is the last wall, not the first: whoever holds a value does not print it.

Values are ASCII (sources.check_value), so that no value can come out of the mark that replaces one.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterable, Iterator

MARK = "•••"
MOST_FORMER = 32  # values with a successor: a token that is replaced every five minutes is known for hours
MIN_LENGTH = 8  # of a value: what is shorter is found in any text, and could not be taken out of one

_LITERAL = re.compile(r"[A-Za-z0-9_.~-]")  # what no encoding changes
_OTHERS = {
    " ": (r"\+",),
    "&": ("&(?:amp;)++(?:#38;|#x26;)?",),
    "<": ("&(?:amp;)*+(?:lt|#60|#x3c);",),
    ">": ("&(?:amp;)*+(?:gt|#62|#x3e);",),
    '"': ("&(?:amp;)*+(?:quot|#34|#x22);",),
    "'": ("&(?:amp;)*+(?:apos|#39|#x27);", "'\"'\"'", r"'\\'{2}"),
}
_LEAST_BASE64 = 5  # characters; fewer are found everywhere


class Redactor:
    """Takes values out of texts. More values can be added, from any thread; none is ever shown.

    Each value has a pattern of its own: one of all of them would have to be made again with each new one.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._values: tuple[str, ...] = ()  # the longer ones first: of two values one may begin with the other
        self._former: dict[str, None] = {}  # those that have a successor, the latest last
        self._lock = threading.Lock()
        for value in values:
            self.add(value)

    def __repr__(self) -> str:
        return f"Redactor({len(self._values)} values)"

    def add(self, value: str) -> None:
        with self._lock:
            self._former.pop(value, None)
            if value and value not in self._values:
                self._put({*self._values, value})

    def outdate(self, value: str) -> None:
        """The value has a successor: it is one of the last MOST_FORMER that are still taken out."""
        with self._lock:
            if value in self._values:
                self._former.pop(value, None)
                self._former[value] = None
            if len(self._former) > MOST_FORMER:
                oldest = next(iter(self._former))
                del self._former[oldest]
                self._put({*self._values} - {oldest})
                self._patterns.pop(oldest, None)

    def __call__(self, text: str) -> str:
        for value in self._values:
            if (pattern := self._patterns.get(value)) is None:
                pattern = self._patterns[value] = _compile(value)
            text = pattern.sub(MARK, text)
        return text

    def _put(self, values: set[str]) -> None:
        self._values = tuple(sorted(values, key=lambda value: (-len(value), value)))


def redact(text: str, values: Iterable[str]) -> str:
    """The text with MARK in the place of each of the values, in whatever encoding."""
    return Redactor(values)(text)


_held = Redactor()


def hold(value: str) -> str:
    """Have a value taken out of all that this process prints (`redact_held`), for as long as it lives. Returns it.

    What is too short to be one is not held: nothing could be read any more.
    """
    if len(value) >= MIN_LENGTH:
        _held.add(value)
    return value


def outdate(value: str) -> None:
    """A value that is held has a successor, or is none: of such ones the last MOST_FORMER are held on to."""
    _held.outdate(value)


def redact_held(text: str) -> str:
    """The text without the values that this process holds, or has held."""
    return _held(text)


def _compile(value: str) -> re.Pattern[str]:
    pattern = re.compile("|".join(sorted(set(_forms(value)), key=lambda form: (-len(form), form))))
    re.purge()  # it would keep hundreds of them, each of them up to a megabyte
    return pattern


def _forms(value: str) -> Iterator[str]:
    """Patterns of what encodings make of a value."""
    yield _pattern_of(value)
    data = value.encode("utf-8", "surrogateescape")
    yield _hexadecimal(data.hex())
    yield "".join(map(_percent, value))
    yield "".join(rf"\\++u{_hexadecimal(f'{ord(char):04x}')}" for char in value)
    for before in range(3):
        if len(encoded := _base64(data, before)) >= _LEAST_BASE64:
            yield _pattern_of(encoded, base64=True)


def _base64(data: bytes, before: int) -> str:
    """The characters that depend on `data` alone where so many bytes (modulo 3) were encoded before it."""
    encoded = base64.b64encode(b"\0" * before + data).decode()
    return encoded[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]


def _pattern_of(text: str, *, base64: bool = False) -> str:
    # What is quoted may be quoted again, so backslashes can be any number. They are taken all at once and never given
    # back (`*+`), a run of them as one: a pattern that could divide them in many ways would try for ever.
    parts = re.findall(r"\\+|[^\\]", text, re.DOTALL)
    # And it begins at the first of them, or at none.
    first = "" if _is_plain(parts[0], base64) else r"(?:(?<!\\)|(?!\\))"
    return first + "".join(_run(part) if part[0] == "\\" else _character(part, base64) for part in parts)


def _is_plain(char: str, base64: bool) -> bool:
    return bool(_LITERAL.fullmatch(char)) and not (base64 and char in "-_")


def _character(char: str, base64: bool) -> str:
    if _is_plain(char, base64):
        return re.escape(char)
    forms = [*_OTHERS.get(char, ()), re.escape(char), _percent(char), f"u{_hexadecimal(f'{ord(char):04x}')}"]
    if base64 and char in "+/":
        forms.append("-" if char == "+" else "_")
    return rf"\\*+(?:{'|'.join(forms)})"


def _run(backslashes: str) -> str:
    # Ended by what is no backslash, not by `+`: Python before 3.11.5 gives back too little inside of that
    # (github.com/python/cpython/issues/106052).
    one = rf"(?:\\u005[cC]|\\|{_percent(chr(92))})"
    return rf"{one}{{{len(backslashes)},}}(?!{one})"


def _percent(char: str) -> str:
    """Its bytes as URLs have them, also encoded again (`%252F`)."""
    return "".join(f"%(?:25){{0,3}}{_hexadecimal(f'{byte:02x}')}" for byte in char.encode("utf-8", "surrogateescape"))


def _hexadecimal(digits: str) -> str:
    """The digits in either case."""
    return "".join(digit if digit.isdigit() else f"[{digit}{digit.upper()}]" for digit in digits)
