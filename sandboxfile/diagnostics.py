"""The problems of a file: what is wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sandboxfile.positions import KeyPath, Position, render_path

_LINE_WIDTH = 100  # longer lines are cut around the caret
_SHORTEST = 6  # also on a narrower terminal
_INDENT = "  "
_VALUE_WIDTH = 60  # longer values are cut in messages
Severity = Literal["error", "warning"]  # a file with warnings can be used

_SHOWN_AT_ONCE = 50  # a file with more problems than this is not the file that the user meant to write


class Problem(NamedTuple):
    """A problem with its path, as checks find it. `Source.diagnose` adds file, line and column."""

    path: KeyPath
    message: str
    hint: str | None = None
    at_key: bool = False  # the caret goes under the key instead of the value
    severity: Severity = "error"


@dataclass(frozen=True)
class Diagnostic:
    """One problem of a file, with its place.

    `position` is None for a problem without a place, such as a missing file. `line` is the text of the line there.
    """

    position: Position | None
    path: KeyPath
    message: str
    hint: str | None = None
    file: str = "Sandboxfile.yaml"
    line: str | None = None
    severity: Severity = "error"

    def render(self, columns: int | None = None) -> str:
        """`FILE:LINE:COLUMN: PATH: MESSAGE`, then the line, a caret under the column, and the hint; without colours.

        On a terminal with so many `columns` the line must not wrap, or the caret would stand under something else.
        """
        place = printable(self.file)
        if self.position is not None:
            place += f":{self.position.line}:{self.position.column}"
        where = f"{printable(render_path(self.path))}: " if self.path else ""
        kind = "warning: " if self.severity == "warning" else ""
        rows = [f"{place}: {kind}{where}{printable(self.message)}"]
        if self.position is not None and self.line is not None and self.line.strip():
            rows += _point(self.line, self.position.column, columns)
        if self.hint:
            rows.append(f"  hint: {printable(self.hint)}")
        return "\n".join(rows)

    def __str__(self) -> str:
        return self.render()


class SandboxfileError(Exception):
    """A file cannot be used.

    `brief` is one line, `details` are all problems with their places, `hint` is what to do.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(diagnostics, key=_order))
        if not self.diagnostics:
            raise ValueError("an error needs at least one diagnostic")
        count = len(self.diagnostics)
        file = printable(self.diagnostics[0].file)
        self.brief = f"{file} has {count} problems" if count > 1 else f"{file} has a problem"
        self.details = self.within(None)
        self.hint = self.diagnostics[0].hint if count == 1 else None
        super().__init__(self.brief)

    def within(self, columns: int | None) -> str:
        """The details for a terminal with so many columns; None for what is no terminal."""
        shown = [diagnostic.render(columns) for diagnostic in self.diagnostics[:_SHOWN_AT_ONCE]]
        if len(self.diagnostics) > _SHOWN_AT_ONCE:
            shown.append(f"... and {len(self.diagnostics) - _SHOWN_AT_ONCE} more")
        return "\n".join(shown)

    def __str__(self) -> str:
        return self.details


def printable(text: str) -> str:
    """`text` with every character that could control a terminal, or is invisible, written as an escape."""
    return "".join(_visible(char) for char in text)


def quote(value: object) -> str:
    """A value as text for a message: on one line, cut if it is long, without control characters."""
    text = repr(value)
    if len(text) > _VALUE_WIDTH:
        text = f"{text[:_VALUE_WIDTH]}..."
    return printable(text)


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """A hint that names the candidate nearest to `word`; None when none is near enough to be a typing error."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(word.lower()[:80], by_lower, n=1, cutoff=0.6)
    return f"did you mean {quote(by_lower[near[0]])}?" if near else None


def one_of(candidates: Sequence[str]) -> str:
    """The candidates as `a, b or c`."""
    *most, last = candidates
    return f"{', '.join(most)} or {last}" if most else last


def _order(diagnostic: Diagnostic) -> tuple[Position, str, str]:
    return (diagnostic.position or Position(0, 0), render_path(diagnostic.path), diagnostic.message)


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _point(line: str, column: int, columns: int | None) -> list[str]:
    """The line, cut around the column when it is long, and a caret under the column."""
    index = min(column - 1, len(line))
    length = _LINE_WIDTH
    before, after = _cut(line, index, length)
    while columns is not None and length > _SHORTEST and _width(before + after) > columns - len(_INDENT):
        length -= 1
        before, after = _cut(line, index, length)
    return [f"{_INDENT}{before}{after}".rstrip(), f"{_INDENT}{' ' * _width(before)}^"]


def _cut(line: str, index: int, length: int) -> tuple[str, str]:
    """What is shown of the line before and behind `index`: about so many characters."""
    start = max(0, index - length // 2) if len(line) > length else 0
    end = start + length
    before = ("..." if start else "") + _shown(line[start:index])
    return before, _shown(line[index:end]) + ("..." if end < len(line) else "")


def _shown(text: str) -> str:
    return printable(text.replace("\t", " "))


def _width(text: str) -> int:
    """Columns of a terminal that `text` takes: wide East Asian characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
