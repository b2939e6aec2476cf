"""A body on its way to a host must not carry, as a credential, the placeholder of a secret that the host does not get.

Looked for is a placeholder that is the whole value of a field with a credential's name, in JSON or in a form. One that
stands anywhere else is no credential: an agent that has looked at its environment tells its model what it saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote_plus

from engine.gateway.injection import CredentialRefused

LOOKED_AT = 1 << 20  # bytes of a body; what comes behind them is not looked at
_BEFORE = 512  # bytes that are looked at again with the next piece: the longest placeholder, and what is around it
_AROUND = 200  # bytes before a placeholder that say what it is

_NAME = rb"[a-z0-9_.%-]{0,60}(?:token|key|secret|auth|passw|credential|assertion)[a-z0-9_.%-]{0,60}"
_JSON_FIELD = re.compile(rb'"' + _NAME + rb'"\s{0,20}:\s{0,20}"(?:(?:bearer|token) )?\Z', re.IGNORECASE)
_FORM_FIELD = re.compile(rb"(?:\A|&)" + _NAME + rb"=\Z", re.IGNORECASE)


class Outgoing:
    """Sees one body in pieces of any size."""

    def __init__(self, placeholders: Iterable[str], host: str) -> None:
        self._wanted = _spellings(frozenset(placeholders))
        self._host = host
        self._seen = 0
        self._end = b""

    def look(self, data: bytes) -> None:
        """Raises CredentialRefused: of what was passed on before, no field of that kind is whole."""
        if not self._wanted or self._seen >= LOOKED_AT:
            return
        self._seen += len(data)
        before, window = len(self._end), self._end + data
        self._end = window[-_BEFORE:]
        # Only what ends in the new piece, or directly before it: else each single byte would cost as much as many.
        if any(_is_credential(window, text, max(0, before - len(text))) for text in self._wanted):
            raise CredentialRefused(f"the body carries the placeholder of a secret that {self._host} does not get")


def _is_credential(window: bytes, text: bytes, start: int) -> bool:
    """Whether one that begins at `start` or behind it is. The end of a piece counts as the end of the field."""
    at = window.find(text, start)
    while at >= 0:
        before, behind = window[max(0, at - _AROUND) : at], window[at + len(text) :][:1]
        if (behind == b'"' and _JSON_FIELD.search(before)) or (behind in (b"", b"&") and _FORM_FIELD.search(before)):
            return True
        at = window.find(text, at + 1)
    return False


@lru_cache(maxsize=64)
def _spellings(placeholders: frozenset[str]) -> tuple[bytes, ...]:
    """As they are, and as forms have them."""
    return tuple(sorted({each.encode() for each in (*placeholders, *map(quote_plus, placeholders))}))
