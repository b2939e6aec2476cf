"""Reading JSON with comments, the format of VS Code and dev containers, with the place of every value.

Without its comments such a text is YAML, even with trailing commas. Our reader of YAML does what libraries for JSON do
not: it has limits, notes places, and refuses keys that are there twice.
"""

from __future__ import annotations

import re

from sandboxfile.reading.source import Source, read_source

# Strings are matched, too, so that nothing in them is taken for a comment. An unfinished string ends with its line.
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"?|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def read_jsonc(text: str, file: str) -> Source:
    """Read a whole file. Raises nothing for any input: the problems are in `problems` of the result."""
    return read_source(_TOKEN.sub(_blank, text), file)


def _blank(match: re.Match[str]) -> str:
    """A comment becomes spaces, so that everything keeps its place. In a string, surrogate pairs become one escape."""
    token = match[0]
    if not token.startswith('"'):
        return re.sub(r"[^\n]", " ", token)
    return _SURROGATES.sub(_join, token)


def _join(match: re.Match[str]) -> str:
    high, low = int(match[1], 16), int(match[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"
