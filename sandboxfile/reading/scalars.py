"""From unquoted words of YAML to values, by the core schema of YAML 1.2, without its surprises."""

from __future__ import annotations

import re

from sandboxfile.diagnostics import quote

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_AS_TEXT = "quote it if it is text"


class UnusableScalar(Exception):
    """A word that YAML would read as something surprising. `stand_in` is a value of the type that it would have."""

    def __init__(self, message: str, hint: str, stand_in: int | float) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.stand_in = stand_in


def resolve_scalar(text: str, *, compose: bool = False, mode: bool = False) -> str | int | float | bool | None:
    """The value of a word without quotes.

    In a file of Compose, a hexadecimal number is a number, and a leading zero makes the `mode` of a file octal.

    Only `true` and `false`, in lower case, upper case or capitalised, are booleans; dates, `yes`, `12:30` and `1_000`
    are strings. Raises UnusableScalar for a number that has a leading zero (some readers take it for octal, others for
    decimal), needs more than 64 bits, or is not finite.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if compose and mode and re.fullmatch("0[0-7]{1,6}", text):
            return int(text, 8)
        if not compose and text.startswith("0x"):
            message = f"{quote(text)} would be read as the number {int(text[:20], 0)}"
            raise UnusableScalar(message, f'quote it if it is text: "{text[:20]}"', 0)
        return _integer(text)
    if _NOT_FINITE.fullmatch(text):
        raise UnusableScalar(f"{quote(text)} is not a usable number", _AS_TEXT, 0.0)
    if _FLOAT.fullmatch(text):
        if len(text) > 40 or abs(float(text)) > 1e300:
            raise UnusableScalar(f"{quote(text)} is not a usable number", _AS_TEXT, 0.0)
        return float(text)
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits.isdigit() and digits.startswith("0"):
        hint = "remove the zero, quote it if it is text, or write 0o in front if it is octal"
        raise UnusableScalar(f"a leading zero makes {quote(text)} ambiguous", hint, 0)
    # The length is checked first, because parsing a number of a million digits is slow.
    if len(text) > 20 or abs(number := int(text, 0)) >= 2**63:
        raise UnusableScalar(f"the number {quote(text)} is too large", _AS_TEXT, 0)
    return number
