"""A text, with computations about its lines. All numbers in this module are indexes into the text."""

from __future__ import annotations

import re
from collections.abc import Sequence

LINE_BREAK = re.compile(r"\r\n|\n|\r")
_BLANK_LINE = re.compile(r"(?>\r\n|\n|\r)[ \t]*(?>\r\n|\n|\r)")  # atomic groups: \r\n is one line break, never two
_COMMENT_LINE = re.compile(r"([ \t]*)#[^\r\n]*(?:\r\n|\n|\r|\Z)")


class Page:
    """A text and its lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        found = LINE_BREAK.search(text)
        self.newline = found.group() if found else "\n"

    def begin_of_line(self, at: int) -> int:
        return max(self.text.rfind("\n", 0, at), self.text.rfind("\r", 0, at)) + 1

    def after_line(self, at: int) -> int:
        """The index behind the line break that ends the line; the end of the text when there is none."""
        found = LINE_BREAK.search(self.text, at)
        return found.end() if found else len(self.text)

    def column(self, at: int) -> int:
        """The column of the character at `at`, counted from 0."""
        return at - self.begin_of_line(at)

    def same_line(self, one: int, other: int) -> bool:
        return self.begin_of_line(one) == self.begin_of_line(other)

    def indent(self, at: int) -> str:
        """The white space at the beginning of the line."""
        begin = self.begin_of_line(at)
        rest = self.text[begin:]
        return rest[: len(rest) - len(rest.lstrip(" \t"))]

    def has_blank_line(self, begin: int, end: int) -> bool:
        return _BLANK_LINE.search(self.text, begin, end) is not None

    def replace(self, begin: int, end: int, text: str) -> str:
        return self.text[:begin] + text + self.text[end:]

    def insert_lines(self, at: int, lines: Sequence[str], column: int) -> str:
        """The text with `lines` inserted before the line that begins at `at`, or at the end of the text.

        If the text had no line end at its end, the new text has none either.
        """
        indented = [" " * column + line if line else "" for line in lines]
        if at == len(self.text) and self.text and not LINE_BREAK.search(self.text[-1]):
            return self.newline.join([self.text, *indented])
        return self.replace(at, at, "".join(line + self.newline for line in indented))

    def after_comments(self, at: int) -> int:
        """The index behind the line and the comments right below it that are indented or continue a list (`#  - x`)."""
        place = self.after_line(at)
        while (found := _COMMENT_LINE.match(self.text, place)) and re.match(r"[ \t]*#(?:\s|-)", found.group()):
            place = found.end()
        return place

    def after_remarks(self, at: int, column: int) -> int:
        """The index behind the comments that belong to the value that ends at `at`, in a mapping at `column`.

        Comments on the lines right behind the value belong to it if they are deeper than the keys of the mapping, or if
        a blank line or the end of the text follows them. Other comments belong to whatever comes next.
        """
        place = own = self.after_line(at)
        deeper = True
        while found := _COMMENT_LINE.match(self.text, place):
            place = found.end()
            deeper = deeper and len(found.group(1)) > column
            if deeper:
                own = place
            if not found.group().endswith(("\n", "\r")):
                break
        line = self.text[place : self.after_line(place)]
        return own if line.strip() else place
