"""Patterns in `setup.inputs`, such as `*.txt` and `src/**/*.py`. A directory that matches is taken as a whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError
from vmm.walk import LeaveOut

if TYPE_CHECKING:
    from pathspec import PathSpec

_SPECIAL = re.compile(r"[*?\[]")


def is_pattern(name: str) -> bool:
    """Whether `name` may stand for other names than itself."""
    return _SPECIAL.search(name) is not None


def split_pattern(name: str) -> tuple[str, str]:
    """The directory that contains all matches ("." is the project itself), and the pattern below that directory."""
    parts = name.split("/")
    plain = next(index for index, part in enumerate(parts) if is_pattern(part))
    return "/".join(parts[:plain]) or ".", "/".join(parts[plain:])


def match_pattern(pattern: str) -> LeaveOut:
    """A rule that leaves out whatever does not match `pattern`, and directories in which nothing can match.

    Raises EngineError (exit code 2) when `pattern` is no pattern.
    """
    parts = pattern.split("/")
    whole = _spec(pattern)
    fixed = parts.index("**") if "**" in parts else len(parts)
    above = [_spec("/".join(parts[: index + 1])) for index in range(min(fixed, len(parts) - 1))]

    def leave_out(name: str, with_all_below: bool) -> bool:
        if whole.match_file(name):
            return False
        if not with_all_below:
            return True
        depth = name.count("/") + 1
        if depth <= len(above):
            return not above[depth - 1].match_file(name)
        return fixed == len(parts)

    return leave_out


def _spec(pattern: str) -> PathSpec[Any]:
    from pathspec import PathSpec  # here, since the import takes 40 ms

    try:
        return PathSpec.from_lines("gitignore", [f"/{pattern}"])
    except (ValueError, re.error):
        raise EngineError(f"{pattern!r} is not a pattern", exit_code=2) from None
