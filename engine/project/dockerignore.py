"""What a .dockerignore leaves out, by Docker's rules.

The file may be hostile: its size and the number of its patterns are limited, and each line is checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

from engine.errors import EngineError
from vmm.walk import LeaveOut, nothing

DOCKERIGNORE = ".dockerignore"
MAX_BYTES = 1 << 20
MAX_PATTERNS = 10_000  # each entry of the tree is compared with each pattern

_UNCLOSED = re.compile(r"(?<!\\)\[[^\]]*$")


class IgnoreFileError(EngineError):
    """A line is no pattern, or the file as a whole cannot be used (then `line` is 0). `text` is the line."""

    def __init__(self, file: str, line: int, message: str, text: str = "") -> None:
        super().__init__(f"{file}:{line}: {message}" if line else f"{file}: {message}", text or None, exit_code=2)
        self.file = file
        self.line = line
        self.message = message
        self.text = text


def parse_dockerignore(content: bytes, file: str) -> list[str]:
    """The lines of the file that hold patterns. Messages call the file `file`. Raises IgnoreFileError."""
    if len(content) > MAX_BYTES:
        raise IgnoreFileError(file, 0, f"is larger than {MAX_BYTES // 1024} KiB")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise IgnoreFileError(file, content.count(b"\n", 0, error.start) + 1, "is not UTF-8") from None
    patterns = [(number, line) for number, line in enumerate(lines, 1) if _anchored(line)]
    if len(patterns) > MAX_PATTERNS:
        raise IgnoreFileError(file, patterns[MAX_PATTERNS][0], f"has more than {MAX_PATTERNS:,} patterns")
    if patterns:
        from pathspec import PathSpec  # here, since the import takes 40 ms and most trees have no such file

        for number, line in patterns:
            try:
                pattern = _anchored(line)
                PathSpec.from_lines("gitignore", [pattern, f"{pattern}/**"])
                if _UNCLOSED.search(pattern):  # the library accepts it as plain text, Docker refuses it
                    raise ValueError
            except (ValueError, re.error):
                raise IgnoreFileError(file, number, f"{line.strip()[:100]!r} is not a pattern", line) from None
    return [line for _, line in patterns]


def match_dockerignore(lines: Sequence[str], keep: Collection[str] = ()) -> LeaveOut:
    """The rule that `lines` make, as Docker reads them.

    Patterns are anchored at the root, the last pattern that matches decides, and `!` takes a path back in. The files in
    `keep` are never left out: a build needs its Dockerfile even where the context leaves it out. A directory is left
    out as a whole, unless a `!` pattern could take something below it back in.
    """
    patterns = [pattern for line in lines if (pattern := _anchored(line))]
    if not patterns:
        return nothing
    from pathspec import PathSpec

    # In Docker a pattern that matches a directory also covers everything below it; in gitignore "/*" does not.
    spec = PathSpec.from_lines("gitignore", [line for pattern in patterns for line in (pattern, f"{pattern}/**")])
    taken_back = [re.split(r"[*?\[\\]", pattern[2:], maxsplit=1)[0] for pattern in patterns if pattern[0] == "!"]

    def leave_out(name: str, with_all_below: bool) -> bool:
        below = f"{name}/"
        if name in keep or (with_all_below and any(kept.startswith(below) for kept in keep)):
            return False
        if with_all_below and any(prefix.startswith(below) or below.startswith(prefix) for prefix in taken_back):
            return False
        return spec.match_file(name)

    return leave_out


def _anchored(line: str) -> str:
    """One line of a .dockerignore as an anchored gitignore pattern; "" for a line without a pattern."""
    line = line.strip()
    if not line or line.startswith("#"):
        return ""
    negation, line = ("!", line[1:].strip()) if line.startswith("!") else ("", line)
    cleaned = os.path.normpath(line).lstrip("/")
    return "" if cleaned in (".", "") else f"{negation}/{cleaned}"
