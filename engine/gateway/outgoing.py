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


class Outgoing:
    """Sees one body in pieces of any size."""

    def __init__(self, placeholders: Iterable[str], host: str) -> None:
        self._pattern = _pattern(frozenset(placeholders))
        self._host = host
        self._seen = 0
        self._end = b""

    def look(self, data: bytes) -> None:
        """Raises CredentialRefused; what was passed on before has no whole placeholder."""
        if self._pattern is None or self._seen >= LOOKED_AT:
            return
        self._seen += len(data)
        window = self._end + data
        self._end = window[-_BEFORE:]
        if self._pattern.search(window):
            raise CredentialRefused(f"the body carries the placeholder of a secret that {self._host} does not get")


@lru_cache(maxsize=64)
def _pattern(placeholders: frozenset[str]) -> re.Pattern[bytes] | None:
    if not placeholders:
        return None
    plain = "|".join(re.escape(each) for each in sorted(placeholders))
    in_form = "|".join(re.escape(each) for each in sorted({*placeholders, *map(quote_plus, placeholders)}))
    name = r"[a-z0-9_.%-]{0,60}(?:token|key|secret|auth|passw|credential|assertion)[a-z0-9_.%-]{0,60}"
    json_field = rf'"(?i:{name})"\s{{0,20}}:\s{{0,20}}"(?:(?i:bearer|token) )?(?:{plain})"'
    form_field = rf"(?:^|&)(?i:{name})=(?:{in_form})(?=&|$)"
    return re.compile(f"{json_field}|{form_field}".encode())
