"""Adding an entry to the text of a file in place. All lines that are not part of the addition stay as they are.

The place is computed from the outline of the text, and the new characters are inserted there. Writing the whole file
anew would change quotes, indentation and line breaks in parts that nobody wants to change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

from sandboxfile.diagnostics import Diagnostic, SandboxfileError
from sandboxfile.positions import KeyPath, Position, render_path
from sandboxfile.reading.source import Source, read_source
from sandboxfile.sections.model import Sandbox
from sandboxfile.writing.notation import Hand
from sandboxfile.writing.outline import Branch, read_outline
from sandboxfile.writing.page import Page

# A new section is put in the order of the model's fields.
ORDER = tuple(field.alias or name for name, field in Sandbox.model_fields.items())
_WORDS = ("packages", "ports")  # lists that are written on one line when they are new

_COMMENT = re.compile(r"(?:(?<=\s)|^)#[^\r\n]*")


_NOTHING = re.compile(r"(?:[ \t]*(?:#[^\r\n]*)?(?:\r\n|\n|\r|\Z))*")


def append(text: str, path: KeyPath, value: Any, file: str = "Sandboxfile.yaml") -> str:
    """The text with `value` as the last item of the list at `path`, which is made if there is none.

    The mapping that contains the list must exist. Raises SandboxfileError for a text that cannot be read, and where
    nothing can be added in place (such as to a list behind an alias).
    """
    return _begin(text, path, [value]) or _Editor(text, path, file).add(None, value)


def insert(text: str, path: KeyPath, key: str, value: Any, file: str = "Sandboxfile.yaml") -> str:
    """The text with `key: value` as the last entry of the mapping at `path`; otherwise as `append`.

    The mapping must not have `key` yet.
    """
    return _begin(text, path, {key: value}) or _Editor(text, path, file).add(key, value)


def _begin(text: str, path: KeyPath, value: Any) -> str | None:
    """The text with its first section, if it is empty or has only comments; None for any other text."""
    if not _NOTHING.fullmatch(text) or len(path) > 1:
        return None
    hand = Hand()
    items = [f"- {hand.flow(item)}" for item in value] if isinstance(value, list) else hand.block(value, 2)
    return Page(text).insert_lines(len(text), [f"{path[0]}:", *(f"  {line}" for line in items)], 0)


class _Editor:
    """One addition to the list or mapping at `path`."""

    def __init__(self, text: str, path: KeyPath, file: str) -> None:
        self._mark = "\ufeff" if text.startswith("\ufeff") else ""
        self._file = file
        self._source = read_source(text, file)
        if self._source.problems:
            raise SandboxfileError(self._source.problems)
        self._path = path
        self._name = str(path[-1])
        self._page = Page(text.removeprefix(self._mark))
        try:
            self._root = read_outline(self._page.text)
        except ValueError:  # a form of YAML that nobody writes, such as a `?` key without a value
            raise self._refuse()
        self._around = self._holder()
        self._section = self._around.find(self._name)
        self._hand = self._learn_hand()

    def add(self, key: str | None, value: Any) -> str:
        section, kind = self._section, "sequence" if key is None else "mapping"
        if section is None and self._around.flow:
            text = self._into_brackets(self._around, self._name, [value] if key is None else {key: value})
        elif section is None:
            text = self._new_section(key, value)
        elif section.is_empty and not self._around.flow:
            text = self._below_key(key, value)
        elif section.kind != kind:
            raise self._refuse()
        elif not section.flow:
            text = self._below_last(section, key, value)
        elif section.entries or self._around.flow or (key is None and self._name in _WORDS):
            text = self._into_brackets(section, key, value)
        else:
            text = self._instead_of_brackets(section, key, value)
        self._prove(text, key, value)
        return self._mark + text

    def _holder(self) -> Branch:
        """The mapping that contains the section."""
        if (missing := self._missing()) is not None:
            raise missing
        branch: Branch | None = self._root
        for segment in self._path[:-1]:
            branch = branch.find(str(segment)) if branch else None
        if branch is None or branch.kind != "mapping" or not branch.entries:
            raise self._refuse()
        return branch

    def _missing(self) -> SandboxfileError | None:
        """The refusal where the file has no such agent, or whatever else the path leads through."""
        data = self._source.data
        for depth, segment in enumerate(self._path[:-1]):
            if not isinstance(data, dict) or data.get(segment) is None:
                message = f"there is no {render_path(self._path[:-1])} in the file"
                hint = f"the file has no `{self._path[0]}`, or an empty one"
                if depth and isinstance(data, dict):
                    hint = f"the keys of {render_path(self._path[:depth])} are {', '.join(data)}"
                return SandboxfileError([Diagnostic(None, (), message, hint, self._file)])
            data = data[segment]
        return None

    def _refuse(self) -> SandboxfileError:
        position = self._source.positions.of_value(self._path) or Position(1, 1)
        message = "nothing can be added here in place"
        return SandboxfileError([self._source.at(position, message, "write it into the file yourself", self._path)])

    def _prove(self, text: str, key: str | None, value: Any) -> None:
        """Read the new text, and check that nothing but the addition has changed. Raises SandboxfileError."""
        expected = self._read(self._page.text).data
        holder = expected
        for segment in self._path[:-1]:
            holder = holder[segment]
        before = holder.get(self._name) or ([] if key is None else {})
        if key is None and isinstance(before, list):
            holder[self._name] = [*before, value]
        elif key is not None and isinstance(before, dict):
            holder[self._name] = {**before, key: value}
        else:  # the section is of another kind: a merge key (`<<`) brings it in
            raise self._refuse()
        result = self._read(text)
        if result.problems or _canonical(result.data) != _canonical(expected):
            raise self._refuse()

    def _read(self, text: str) -> Source:
        # A block of text on a last line without a line end has none, and gets one when lines are added behind it. With
        # a line end at the end of both texts, both read the same.
        return read_source(text if text.endswith(("\n", "\r")) else text + self._page.newline, self._file)

    # -- how the file is written

    def _learn_hand(self) -> Hand:
        names = [key.style for key, _ in self._root.entries if key is not None]
        if self._root.flow and all(style == '"' for style in names):
            return Hand(quotes_all=True)  # JSON
        near = _quotes(self._section) if self._section else []
        every = near or _quotes(self._root)
        single = every.count("'") > every.count('"')
        return Hand("'" if single else '"', step=self._step(self._section) or self._step(self._root) or 2)

    def _step(self, around: Branch | None) -> int | None:
        """The number of columns by which the first mapping below a key is indented."""
        for key, value in around.entries if around and not around.flow else ():
            if key is not None and value.kind == "mapping" and not value.flow:
                return self._page.column(value.body) - self._page.column(key.start)
            if found := self._step(value):
                return found
        return None

    def _dash_column(self) -> int:
        """The number of columns by which a list below a key is indented."""
        for key, value in self._around.entries:
            if key is not None and value.kind == "sequence" and not value.flow:
                return self._page.column(value.body) - self._page.column(key.start)
        return self._hand.step

    # -- where lines are added

    def _below_last(self, section: Branch, key: str | None, value: Any) -> str:
        last = section.entries[-1][1]
        column = self._page.column(section.body)
        if key is None:
            lines = self._item(section, value)
        else:
            block = last.kind == "mapping" and not last.flow
            lines = self._hand.entry(key, value, column, block=block)
            if self._is_spaced(section, len(section.entries) - 2) and not last.takes_blank_lines:
                lines = ["", *lines]
        return self._page.insert_lines(self._after(last), lines, column)

    def _item(self, section: Branch, value: Any) -> list[str]:
        """The lines of a list item, in the style of the item before it."""
        last = section.entries[-1][1]
        dash = self._page.begin_of_line(last.start) + self._page.column(section.body)
        gap = last.start - dash if self._page.text[dash : last.start].rstrip(" ") == "-" and not last.is_empty else 2
        if isinstance(value, dict) and last.kind == "mapping" and not last.flow:
            first, *more = self._hand.block(value, self._page.column(section.body) + gap)
            return ["-".ljust(gap) + first, *(" " * gap + line for line in more)]
        words = [item for _, item in section.entries if item.kind == "scalar"]
        all_quoted = bool(words) and all(item.style in ("'", '"') for item in words)
        hand = replace(self._hand, quotes_all=True) if all_quoted and isinstance(value, str) else self._hand
        return ["-".ljust(gap) + hand.flow(value)]

    def _below_key(self, key: str | None, value: Any) -> str:
        name, section = next(entry for entry in self._around.entries if entry[1] is self._section)
        column = self._page.column(name.start if name else 0)
        _, *lines = self._section_lines(key, value, column, block=True)
        return self._page.insert_lines(self._after(section), lines, column)

    def _instead_of_brackets(self, section: Branch, key: str | None, value: Any) -> str:
        """The text with empty brackets, as in `endpoints: []`, replaced by a block with the entry."""
        before = self._page.text[: section.start].rstrip(" ")
        text = before + self._page.text[section.end :]
        return _Editor(text, self._path, self._file).add(key, value)

    def _new_section(self, key: str | None, value: Any) -> str:
        around = self._around
        index = self._place()
        column = self._page.column(around.body)
        lines = self._section_lines(key, value, column)
        if around is self._root and (at := self._below_example()) is not None:
            return self._page.insert_lines(at, lines, column)
        if self._is_spaced(around, index) and not around.entries[index][1].takes_blank_lines:
            lines = ["", *lines]
        return self._page.insert_lines(self._after(around.entries[index][1]), lines, column)

    def _below_example(self) -> int | None:
        """The place behind the section's example in a comment (`#packages: [ripgrep]`), as starter files have them."""
        text, entries = self._page.text, self._root.entries
        gaps = [(one.end, key.start if key else 0) for (_, one), (key, _) in pairwise(entries)]
        for begin, end in [*gaps, (entries[-1][1].end, len(text))]:
            for match in re.finditer(r"^# ?(\w+):[^\r\n]*", text[begin:end], re.MULTILINE):
                if match[1] == self._name:
                    return self._page.after_comments(begin + match.start())
        return None

    def _place(self) -> int:
        """The index of the entry behind which the new section belongs: the last one that comes before it in the order.

        Where there is none, the section goes to the end: a comment at the top may be about the whole file, or about the
        section that follows.
        """
        names = [key.value if key else "" for key, _ in self._around.entries]
        if self._name not in ORDER:
            return len(names) - 1
        ranks = {name: rank for rank, name in enumerate(ORDER)}
        before = [(ranks[name], index) for index, name in enumerate(names) if name in ranks]
        earlier = [entry for entry in before if entry[0] < ranks[self._name]]
        return max(earlier)[1] if earlier else len(names) - 1

    def _section_lines(self, key: str | None, value: Any, column: int, *, block: bool = False) -> list[str]:
        if key is not None:
            step = self._hand.step
            entry = self._hand.entry(key, value, column + step)
            return [f"{self._name}:", *(" " * step + line for line in entry)]
        if self._name in _WORDS and not block:
            return [f"{self._name}: {self._hand.flow([value])}"]
        return [f"{self._name}:", " " * self._dash_column() + "- " + self._hand.flow(value)]

    def _after(self, branch: Branch) -> int:
        return self._page.after_remarks(branch.end, self._page.column(self._around.body))

    def _is_spaced(self, around: Branch, index: int) -> bool:
        """Whether a blank line follows the entry; for the last entry, whether any two entries have one between them."""
        gaps = [(one.end, key.start) for (_, one), (key, _) in pairwise(around.entries) if key is not None]
        chosen = gaps[index : index + 1] if index >= 0 else []
        if not chosen and around is self._around:
            chosen = gaps
        return any(self._page.has_blank_line(*gap) for gap in chosen)

    # -- where brackets grow

    def _into_brackets(self, section: Branch, key: str | None, value: Any) -> str:
        page, hand = self._page, self._hand
        words = [item for _, item in section.entries if item.kind == "scalar"]
        if key is None and words and all(item.style in ("'", '"') for item in words):
            hand = replace(hand, quotes_all=True)
        written = hand.flow(value) if key is None else f"{hand.scalar(key)}: {hand.flow(value)}"
        if not section.entries:
            inside = page.text[section.body + 1 : section.end - 1]
            return page.replace(section.body + 1, section.body + 1 + (0 if inside.strip() else len(inside)), written)
        first, last = section.entries[-1]
        begin, end = (first or last).start, last.end
        if page.same_line(end, section.end) or page.same_line(begin, section.body):
            return page.replace(end, end, f", {written}")
        # One entry a line: the new one gets a line. The one before it gets a comma, if it has none.
        has_comma = "," in _COMMENT.sub("", page.text[end : section.end - 1])
        line = page.indent(begin) + written + ("," if has_comma else "")
        grown = Page(page.text if has_comma else page.replace(end, end, ","))
        return grown.insert_lines(grown.after_line(end), [line], 0)


def _quotes(branch: Branch) -> list[str]:
    """The quotes of all strings in the branch."""
    return list(_each_quote(branch))


def _each_quote(branch: Branch) -> Iterator[str]:
    if branch.style in ("'", '"'):
        yield str(branch.style)
    for key, value in branch.entries:
        yield from _each_quote(key) if key else ()
        yield from _each_quote(value)


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True)  # unlike ==, this tells 1 from true and from 1.0
