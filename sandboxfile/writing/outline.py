"""The index of the first and the last character of every part of a YAML text, for editing it in place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from sandboxfile.reading.parser import NotYaml, parse

_KEEP = re.compile(r"[|>][0-9]?\+[0-9]?[ \t]*(#.*)?$")
_LAST_BREAK = re.compile(r"(\r\n|\n|\r)\Z")


@dataclass
class Branch:
    """One value. All numbers are indexes into the text.

    `start` is its first character, which may be that of an anchor or tag. `body` is the first character of the value
    itself: a dash, a key or a bracket. `end` is behind the last character; comments and blank lines that follow are not
    part of the value.
    """

    kind: Literal["scalar", "sequence", "mapping", "alias"]
    start: int
    body: int
    end: int = 0
    flow: bool = False
    style: str | None = None  # of a scalar: its quote, | or >; None for a scalar without any
    value: str = ""
    kept: bool = False  # a | or > block with a +, to which the blank lines at its end belong
    entries: list[tuple[Branch | None, Branch]] = field(default_factory=list)  # keys are None in a sequence

    @property
    def takes_blank_lines(self) -> bool:
        """Whether a blank line behind the value would become part of it, since it ends with a `|+` block."""
        if self.entries and not self.flow:
            return self.entries[-1][1].takes_blank_lines
        return self.kept

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written here, as for a key or a dash without a value."""
        return self.kind == "scalar" and self.start == self.end

    def find(self, key: str) -> Branch | None:
        """The value of a mapping's own key; None when it has none. Keys that `<<` merges in do not count."""
        for name, value in self.entries:
            if name is not None and name.kind == "scalar" and name.value == key:
                return value
        return None


def read_outline(text: str) -> Branch:
    """The outline of a text that `read_source` reads without problems and that has no byte order mark.

    Raises ValueError for any other text.
    """
    try:
        events = parse(text)
        for event in events:
            if isinstance(event, (MappingStartEvent, SequenceStartEvent, ScalarEvent)):
                return _branch(text, event, events)
    except NotYaml as error:
        raise ValueError(str(error)) from error
    raise ValueError("the text is empty")


def _branch(text: str, event: Any, events: Iterator[Any]) -> Branch:
    start, stop = event.start_mark.index, event.end_mark.index
    if isinstance(event, AliasEvent):
        return Branch("alias", start, start, stop)
    if isinstance(event, ScalarEvent):
        branch = Branch("scalar", start, start, stop, style=event.style, value=event.value)
        if event.style in ("|", ">"):
            block = text[start:stop]
            branch.kept = bool(_KEEP.search(block.splitlines()[0]))
            branch.end = start + len(_LAST_BREAK.sub("", block) if branch.kept else block.rstrip(" \t\r\n"))
        return branch
    flow = bool(event.flow_style)
    # The parser's mark of a block sequence is at its first dash, or behind it. Its mark of a collection in brackets is
    # behind the first bracket.
    if isinstance(event, SequenceStartEvent):
        body = stop if not flow and text[stop : stop + 1] == "-" else stop - 1
        branch = Branch("sequence", start, body, flow=flow)
        while not isinstance(event := next(events), SequenceEndEvent):
            branch.entries.append((None, _branch(text, event, events)))
    else:
        branch = Branch("mapping", start, stop - 1 if flow else stop, flow=flow)
        while not isinstance(event := next(events), MappingEndEvent):
            key = _branch(text, event, events)
            value = _branch(text, next(events), events)
            if value.is_empty and not flow:  # the parser gives it the place of whatever comes next
                value.start = value.body = value.end = text.index(":", key.end) + 1
            branch.entries.append((key, value))
    branch.end = event.end_mark.index if flow else branch.entries[-1][1].end
    return branch
