"""The YAML library's parser, with tabs as YAML 1.2 has them: they do not indent, and otherwise they separate as spaces.

The library refuses every tab outside of brackets, also before a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.scanner import Scanner

_BLANK = re.compile(r"[ \t]*")


class Spot(NamedTuple):
    """A place in the text, in lines, columns and characters that are counted from 0."""

    line: int
    column: int
    offset: int


class NotYaml(Exception):
    """The text is no YAML: what the library says about it, and where.

    `begin` is where the part begins that the library was reading, and `context` names that part.
    """

    def __init__(self, problem: str, spot: Spot | None, context: str, begin: Spot | None) -> None:
        super().__init__(f"{context}: {problem}" if context else problem)
        self.problem, self.spot, self.context, self.begin = problem, spot, context, begin


class Token(NamedTuple):
    """A bracket (`[`, `]`, `{` or `}`) or a quote (`"` or `'`) that the text holds as such."""

    text: str
    start: Spot
    end: Spot


def parse(text: str) -> Iterator[Any]:
    """The events of the library's parser. Raises NotYaml, and for some malformed escapes Python's own errors."""
    try:
        yield from _yaml().parse(text)
    except MarkedYAMLError as error:
        problem, context = str(error.problem or error), error.context or ""
        spot = _spot(error.problem_mark) or _spot(error.context_mark)
        raise NotYaml(problem, spot, context, _spot(error.context_mark)) from None


def brackets_and_quotes(text: str, end: int) -> list[Token]:
    """Those that begin before the character `end`, or before the one at which the text is no YAML any more."""
    found: list[Token] = []
    try:
        for token in _yaml().scan(text):
            start = _spot(token.start_mark)
            if start is not None and start.offset >= end:
                break
            kind = token.id if token.id in ("[", "]", "{", "}") else getattr(token, "style", None)
            if kind is not None and kind in "[]{}\"'":
                found.append(Token(kind, start or Spot(0, 0, 0), _spot(token.end_mark) or Spot(0, 0, 0)))
    except (MarkedYAMLError, ValueError, LookupError):
        pass
    return found


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = None
    yaml.Scanner = _Scanner
    return yaml


def _spot(mark: Any) -> Spot | None:
    return None if mark is None else Spot(mark.line, mark.column, mark.index)


class _Scanner(Scanner):
    """Passes over the tabs that separate. What it leaves to the library is refused there."""

    def scan_to_next_token(self) -> Any:
        super().scan_to_next_token()
        while self.reader.peek() == "\t" and (length := self._separating()):
            self.reader.forward(length)
            super().scan_to_next_token()

    def scan_plain_spaces(self, indent: Any, start_mark: Any) -> Any:
        """The blanks within a text without quotes, or at the end of one of its lines."""
        run = self._run()
        if "\t" in run:
            behind = self.reader.peek(len(run))
            if behind not in "\r\n\0#":
                self.reader.forward(len(run))
                return [run]
            if behind in "\r\n":
                self.reader.forward(len(run))
        return super().scan_plain_spaces(indent, start_mark)

    def _separating(self) -> int:
        """The length of the blanks from here on; 0 where a tab would indent what follows.

        That is so at the beginning of a line, and behind a dash: what follows may be a mapping of several lines.
        """
        run = self._run()
        text, at = self.reader.buffer, self.reader.pointer
        before = text[at - self.reader.column : at].rstrip(" ")
        ends = self.reader.peek(len(run)) in "\r\n\0#"
        return len(run) if ends or before.endswith(":") else 0

    def _run(self) -> str:
        match = _BLANK.match(self.reader.buffer, self.reader.pointer)
        return match.group() if match else ""
