"""Taking values out of texts on their way to logs, events, errors and terminals.

Taken out are a value as it is; what URLs, JSON, HTML, a shell and Python's `repr` make of it, also one within the
other; its base64 in both alphabets, wherever in a longer text it was encoded (`user:VALUE`); and its hexadecimal
digits. This is the last wall, not the first: whoever holds a value does not print it.

Values are ASCII (sources.check_value), so that no value can come out of the mark that replaces one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator

MARK = "•••"
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
    """Takes values out of texts. More values can be added; none is ever shown."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        for value in values:
            self.add(value)

    def __repr__(self) -> str:
        return f"Redactor({len(self._values)} values)"

    def add(self, value: str) -> None:
        if value and value not in self._values:
            self._values.add(value)
            self._pattern = None

    def __call__(self, text: str) -> str:
        if not self._values:
            return text
        if self._pattern is None:
            forms = {form for value in self._values for form in _forms(value)}
            # The longer ones first: of two values one may begin with the other.
            self._pattern = re.compile("|".join(sorted(forms, key=lambda form: (-len(form), form))))
        return self._pattern.sub(MARK, text)


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


def redact_held(text: str) -> str:
    """The text without the values that this process holds, or has held."""
    return _held(text)


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
