"""What encodings make of a secret's value, as texts that can be looked for in a stream without waiting for its end."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from urllib.parse import quote

SHORTEST = 8  # bytes of what is looked for; fewer are found everywhere


def forms_of(value: bytes) -> list[bytes]:
    """The value as it is, in URLs, JSON, HTML, hexadecimal, and base64 wherever in a longer text it was encoded.

    The longest first, each once. What is shorter than SHORTEST is none of them.
    """
    found = {form for form in (value, *_written(value), *_base64(value)) if len(form) >= SHORTEST}
    return sorted(found, key=lambda form: (-len(form), form))


def _written(value: bytes) -> Iterator[bytes]:
    for safe in ("", "/"):  # a slash is left alone in a path
        escaped = quote(value, safe=safe)
        yield escaped.encode()
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), escaped).encode()
    text = value.decode("latin-1")
    plain = json.dumps(text)[1:-1]
    yield plain.encode()
    yield plain.replace("/", "\\/").encode()
    for characters in ("<>&", "<>&'+"):  # what Go and .NET write otherwise
        for digits in ("04x", "04X"):
            yield "".join(f"\\u{ord(char):{digits}}" if char in characters else char for char in plain).encode()
    yield html.escape(text).encode()
    yield value.hex().encode()
    yield value.hex().upper().encode()


def _base64(value: bytes) -> Iterator[bytes]:
    """The characters that depend on the value alone, with 0, 1 or 2 bytes of something else before it."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + value)
        core = encoded[(0, 2, 3)[before] : (before + len(value)) * 8 // 6]
        yield core
        yield core.replace(b"+", b"-").replace(b"/", b"_")
