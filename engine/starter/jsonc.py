"""JSON with comments, as VS Code and dev containers have it, to plain data with the place of every value.

Without its comments such a text is YAML (trailing commas, too), and the reader of YAML here has what libraries for JSON
do not have: limits, places, and complaints about keys that are there twice.
"""

from __future__ import annotations

import re

from sandboxfile.reading.source import Source, read_source

# Strings are matched so that what looks like a comment in them is none. An unfinished one ends with its line.
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"?|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def read_jsonc(text: str, file: str) -> Source:
    """Read a whole file. Never raises for any input: what is wrong is in `problems`."""
    return read_source(_TOKEN.sub(_blank, text), file)


def _blank(match: re.Match[str]) -> str:
    """A comment as spaces, so that everything keeps its place; a string with its characters beyond U+FFFF whole."""
    token = match[0]
    if not token.startswith('"'):
        return re.sub(r"[^\n]", " ", token)
    return _SURROGATES.sub(_join, token)


def _join(match: re.Match[str]) -> str:
    high, low = int(match[1], 16), int(match[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"
