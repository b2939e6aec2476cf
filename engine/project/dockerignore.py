"""What a .dockerignore leaves out, by Docker's rules. The file is a stranger's: bounded, and judged line by line."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

from engine.errors import EngineError
from vmm.walk import LeaveOut, nothing

DOCKERIGNORE = ".dockerignore"
MAX_BYTES = 1 << 20
MAX_PATTERNS = 10_000  # each entry of the tree is compared with each of them

_UNCLOSED = re.compile(r"(?<!\\)\[[^\]]*$")


class IgnoreFileError(EngineError):
    """A line that is no pattern, or a file that is no list of them (`line` 0). `text` is the line."""

    def __init__(self, file: str, line: int, message: str, text: str = "") -> None:
        super().__init__(f"{file}:{line}: {message}" if line else f"{file}: {message}", text or None, exit_code=2)
        self.file = file
        self.line = line
        self.message = message
        self.text = text


def parse_dockerignore(content: bytes, file: str) -> list[str]:
    """The lines of the file, called `file` in messages. Raises IgnoreFileError."""
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
        from pathspec import PathSpec  # 40 ms, and most trees have no such file

        for number, line in patterns:
            try:
                pattern = _anchored(line)
                PathSpec.from_lines("gitignore", [pattern, f"{pattern}/**"])
                if _UNCLOSED.search(pattern):  # the library takes it as it is, and Docker does not
                    raise ValueError
            except (ValueError, re.error):
                raise IgnoreFileError(file, number, f"{line.strip()[:100]!r} is not a pattern", line) from None
    return [line for _, line in patterns]


def match_dockerignore(lines: Sequence[str], keep: Collection[str] = ()) -> LeaveOut:
    """Docker's rules: patterns are anchored at the root, the last one that matches decides, `!` takes back in.

    The files in `keep` are never left out: a build needs its Dockerfile even where the context does not. A directory is
    left out as a whole unless a `!` pattern could take something below it back in.
    """
    patterns = [pattern for line in lines if (pattern := _anchored(line))]
    if not patterns:
        return nothing
    from pathspec import PathSpec

    # Docker lets a pattern match any parent directory too; in gitignore "*" says nothing about what is deeper.
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
    """One .dockerignore line as an anchored gitignore pattern; "" for a line without one."""
    line = line.strip()
    if not line or line.startswith("#"):
        return ""
    negation, line = ("!", line[1:].strip()) if line.startswith("!") else ("", line)
    cleaned = os.path.normpath(line).lstrip("/")
    return "" if cleaned in (".", "") else f"{negation}/{cleaned}"
