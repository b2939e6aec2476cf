"""Patterns of a mount's `hide`, as the file server compares names with them (vmm/fileserver/hiding.py).

The server has no packages of anybody else, and is shut in before it reads its first byte. So pathspec translates the
patterns here, one name at a time, and the server gets regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from vmm.fileserver.protection import same_letters


def hidden_rules(patterns: Iterable[str]) -> tuple[dict[str, Any], ...]:
    """One rule for each pattern, in their order. Raises ValueError for what is no pattern."""
    return tuple(map(_rule, patterns))


def all_but(name: str) -> tuple[str, ...]:
    """Patterns that hide everything in a directory except the file `name`."""
    escaped = re.sub(r"([\\*?\[\]!# ])", r"\\\1", name)
    return "/*", f"!/{escaped}"


def _rule(pattern: str) -> dict[str, Any]:
    shown = pattern.startswith("!")
    path = pattern.removeprefix("!")
    directory = path.endswith("/")
    names = path.strip("/").split("/")
    if names[-1] == "**":
        names[-1] = "*"  # all that is in a directory, and so what is in that
    if "/" not in path.rstrip("/"):
        names.insert(0, "**")  # without a slash it holds in every directory
    return {
        "names": [_expression(name, pattern) for name in names],
        "alike": [_expression(same_letters(name), pattern) for name in names],
        "directory": directory,
        "shown": shown,
    }


def _expression(name: str, pattern: str) -> str | None:
    if name == "**":
        return None
    from pathspec import PathSpec  # here, since the import takes 40 ms and most mounts hide nothing

    try:
        (translated,) = PathSpec.from_lines("gitignore", [f"/{name}"]).patterns
        if translated.regex is None:
            raise ValueError
        return str(translated.regex.pattern)
    except (ValueError, re.error):
        raise ValueError(f"{pattern!r} is not a pattern") from None
