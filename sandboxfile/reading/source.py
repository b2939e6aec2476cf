"""From YAML 1.2 text to plain data, and the place of every value.

The YAML library only parses the text into events; this module makes data of them. So the work is limited (depth, number
of values, expansion of aliases), and the result has no surprises: it follows the core schema of YAML 1.2, in which
`yes` and `on` are strings; keys must be strings; duplicate keys, tags and accidental octal numbers are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from sandboxfile.diagnostics import Diagnostic, Problem, Severity, quote
from sandboxfile.names import SECTIONS
from sandboxfile.positions import KeyPath, Position, Positions
from sandboxfile.reading.parser import NotYaml, parse
from sandboxfile.reading.scalars import UnusableScalar, resolve_scalar
from sandboxfile.reading.slips import GLUED_DASH, explain, glued_key
from sandboxfile.reading.utf8 import LINE_BREAK, NotUtf8, decode, end_of

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000
MAX_EXPANDED = 4 * MAX_BYTES  # characters of all values; the values of an alias count each time it is used

# Control characters, line breaks that not every editor shows, and marks that change the direction of text. Without them
# a reviewer sees what the machine reads.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


# How the Compose specification lays a value over another one: `reset` removes what is there, `override` replaces it.
Tag = Literal["reset", "override"]
_TAGS: dict[str, Tag] = {"!reset": "reset", "!override": "override"}


class _Merge(str):
    """The key `<<` without quotes, which merges mappings. With quotes it is an ordinary key."""

    __slots__ = ()


@dataclass
class Source:
    """One file: its lines, its plain data (dict, list, str, int, float, bool, None), and the places of its values."""

    file: str
    lines: list[str]
    data: Any = None
    positions: Positions = field(default_factory=Positions)
    problems: list[Diagnostic] = field(default_factory=list)
    unusable: set[KeyPath] = field(default_factory=set)  # values in `data` that stand in for reported ones
    readable: bool = True  # False: `data` does not hold what the file says, so checking it would be useless
    warnings: list[Diagnostic] = field(default_factory=list)
    tags: dict[KeyPath, Tag] = field(default_factory=dict)  # of Compose, for values in layers
    unset: dict[KeyPath, tuple[str, ...]] = field(default_factory=dict)  # variables that left an empty text there

    def diagnose(self, problem: Problem) -> Diagnostic:
        """The problem as a diagnostic, with its position and the line there."""
        places = self.positions
        position = places.of_key(problem.path) if problem.at_key else places.of_value(problem.path)
        place = position or (Position(1, 1) if self.lines else None)
        return self.at(place, problem.message, problem.hint, problem.path, problem.severity)

    def at(
        self,
        position: Position | None,
        message: str,
        hint: str | None = None,
        path: KeyPath = (),
        severity: Severity = "error",
    ) -> Diagnostic:
        # The line may hold a secret's value, which somebody has written into the file. It must not get into a log, too.
        """A diagnostic at `position`, with the line there."""
        shown = position is not None and position.line <= len(self.lines) and path[:1] != ("secrets",)
        line = self.lines[position.line - 1] if shown and position is not None else None
        return Diagnostic(position, path, message, hint, self.file, line, severity)


@dataclass(slots=True)
class _Node:
    value: Any  # a scalar; for a sequence a list of nodes; for a mapping a list of (key, position of the key, node)
    position: Position
    is_mapping: bool = False
    is_empty: bool = False  # a key without a value
    tag: Tag | None = None


class _StopReading(Exception):
    """The text cannot be read any further; `parts` are the arguments for `Source.at`."""

    def __init__(self, position: Position, message: str, hint: str | None = None, path: KeyPath = ()) -> None:
        self.parts = (position, message, hint, path)


def read_source(text: str | bytes, file: str, *, compose: bool = False) -> Source:
    """Read a whole file. Raises nothing for any input: the problems are in `problems` of the result.

    In a file of Compose (`compose`) numbers are those of Compose: `mode: 0440` is octal.
    """
    source = Source(file, [])
    try:
        text = _decode(text, source)
        root = _Composer(source, compose).compose(text)
        source.data = _Builder(source).build(root, (), 0)
    except _StopReading as stop:
        source.problems.append(source.at(*stop.parts))
        source.readable = False
    return source


def _decode(text: str | bytes, source: Source) -> str:
    if len(text) > MAX_BYTES:
        raise _StopReading(Position(1, 1), f"the file is larger than {MAX_BYTES // 1024} KiB")
    text = (_from_bytes(text, source) if isinstance(text, bytes) else text).removeprefix("\ufeff")
    source.lines = LINE_BREAK.split(text)
    if conflict := _CONFLICT.search(text):
        position = end_of(text[: conflict.start()])
        raise _StopReading(position, "a conflict of a merge is not resolved", "choose one of the two sides")
    if bad := _FORBIDDEN.search(text):
        code = ord(bad.group())
        raise _StopReading(end_of(text[: bad.start()]), f"the character U+{code:04X} is invisible and not allowed")
    return text


def _from_bytes(text: bytes, source: Source) -> str:
    try:
        return decode(text)
    except NotUtf8 as error:
        source.lines = LINE_BREAK.split(text.decode("utf-8", "replace"))
        raise _StopReading(error.position, error.message, error.hint)


class _Composer:
    """Makes a tree of nodes from the parser's events. An alias is the same node as its anchor."""

    def __init__(self, source: Source, compose: bool) -> None:
        self._source = source
        self._compose = compose
        self._text = ""
        self._anchors: dict[str, _Node] = {}
        self._count = 0
        self._events: Iterator[Any] = iter(())

    def compose(self, text: str) -> _Node:
        self._text = text
        self._events = self._read(text)
        root = None
        for event in self._events:
            if not isinstance(event, DocumentStartEvent):
                continue
            if event.version and tuple(event.version) != (1, 2):
                raise _StopReading(self._directive(event), "only YAML 1.2 is read here", "remove the %YAML line")
            if root is not None:
                raise _StopReading(_begin(event), "a second document begins here", "one file holds one sandbox")
            root = self._node(next(self._events), (), 0)
        if root is None or (root.value is None and not root.is_mapping):
            raise _StopReading(Position(1, 1), "the file is empty", 'a smallest file: version: "1"')
        if not root.is_mapping:
            if (slip := glued_key(self._source.lines, root.position.line - 1)) is not None:
                raise _StopReading(*slip)
            raise _StopReading(root.position, "the file must be a mapping of sections such as `agent:` and `mounts:`")
        return root

    def _directive(self, event: Any) -> Position:
        """The place of the last %YAML line before a document's beginning: the event has that of its `---` only."""
        begin = _begin(event)
        above = range(begin.line - 1, 0, -1)
        line = next((line for line in above if self._source.lines[line - 1].startswith("%YAML")), begin.line)
        return Position(line, 1)

    def _read(self, text: str) -> Iterator[Any]:
        try:
            yield from parse(text)
        except NotYaml as error:
            raise _StopReading(*explain(error, text))
        except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, AssertionError, OSError) as error:
            # For some malformed escapes and directives the library raises Python's own errors.
            raise _StopReading(Position(1, 1), f"the file cannot be read as YAML: {error}")

    def _node(self, event: Any, path: KeyPath, depth: int) -> _Node:
        position = _begin(event)
        self._count += 1
        if self._count > MAX_VALUES:
            raise _StopReading(position, f"the file has more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise _StopReading(position, f"nested deeper than {MAX_DEPTH} levels", path=path[:4])
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                message = f"the alias *{event.anchor} has no anchor &{event.anchor} before it"
                raise _StopReading(position, message, "quote the value if it is meant to begin with *", path)
            return self._anchors[event.anchor]
        node = _Node(None, position, tag=self._read_tag(event, position, path))
        anchor = event.anchor
        if isinstance(event, ScalarEvent):
            node.value = self._scalar(event, position, path)
            node.is_empty = event.value == "" and event.implicit[0]
        elif isinstance(event, SequenceStartEvent):
            node.value = []
            while not isinstance(event := next(self._events), SequenceEndEvent):
                node.value.append(self._node(event, (*path, len(node.value)), depth + 1))
        elif isinstance(event, MappingStartEvent):
            node.is_mapping = True
            node.value = self._entries(path, depth)
        if anchor:
            self._anchor(anchor, node)
        return node

    def _anchor(self, name: str, node: _Node) -> None:
        if name in self._anchors:
            first = self._anchors[name].position.line
            message = f"the anchor &{name} is already used in line {first}"
            self._source.problems.append(self._source.at(node.position, message, "give it another name"))
        self._anchors[name] = node

    def _entries(self, path: KeyPath, depth: int) -> list[tuple[str, Position, _Node]]:
        entries: list[tuple[str, Position, _Node]] = []
        seen: dict[str, Position] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            position = _begin(event)
            key = self._node(event, path, depth + 1)
            if isinstance(key.value, str):
                value = self._node(next(self._events), (*path, key.value), depth + 1)
                if value.is_empty:  # the parser gives it the position of whatever comes next: take that of its key
                    value.position = position
            else:
                value = self._node(next(self._events), path, depth + 1)
                collection = key.is_mapping or isinstance(key.value, list)
                shown = "a collection" if collection else "nothing" if key.value is None else quote(key.value)
                self._complain(position, f"keys must be strings, got {shown}", "quote it", path)
                continue
            if key.value in seen:
                message = f"duplicate key, the first one is in line {seen[key.value].line}"
                self._complain(position, message, None, (*path, key.value))
                continue
            seen[key.value] = position
            is_merge = key.value == "<<" and isinstance(event, ScalarEvent) and event.implicit[0]
            entries.append((_Merge(key.value) if is_merge else key.value, position, value))
        return entries

    def _complain(self, position: Position, message: str, hint: str | None, path: KeyPath) -> None:
        self._source.problems.append(self._source.at(position, message, hint, path))

    def _replace(self, position: Position, message: str, hint: str | None, path: KeyPath) -> None:
        """Report an unusable value. A stand-in takes its place, about which nothing else must be reported."""
        self._complain(position, message, hint, path)
        self._source.unusable.add(path)

    def _read_tag(self, event: Any, position: Position, path: KeyPath) -> Tag | None:
        tag = getattr(event, "ctag", None)
        if tag is None or str(tag) in ("!", "tag:yaml.org,2002:str"):
            return None
        of_compose = _TAGS.get(str(tag))
        if of_compose and len(path) > 1 and (self._compose or path[0] in SECTIONS):
            return of_compose
        shown = str(tag).replace("tag:yaml.org,2002:", "!!")
        hint = "in a layer, an empty value removes a key" if of_compose else "remove it, or quote the value"
        self._replace(position, f"the tag {shown} is not used here", hint, path)
        return None

    def _scalar(self, event: Any, position: Position, path: KeyPath) -> Any:
        if str(event.ctag) == "!reset":
            return None  # what it removes does not depend on its value
        if not event.implicit[0] or event.ctag is not None:  # quoted, a block, or tagged: always a string
            return event.value
        self._check_continuation(event, position, path)
        try:
            return resolve_scalar(event.value, compose=self._compose, mode=path[-1:] == ("mode",))
        except UnusableScalar as unusable:
            self._replace(position, unusable.message, unusable.hint, path)
            return unusable.stand_in

    def _check_continuation(self, event: Any, position: Position, path: KeyPath) -> None:
        """Report a list entry that is a text, for want of a space, or part of one that is indented by less."""
        if self._compose:
            return
        before = self._text[: event.start_mark.index].rpartition("\n")[2]
        if (glued := GLUED_DASH.match(event.value)) and before.strip(" ") == "" and not _is_number(event.value):
            hint = f"write - {glued['word']}"
            self._replace(position, "a space is missing after the dash", hint, path)
            return
        if event.end_mark.line == event.start_mark.line:
            return
        written = self._text[event.start_mark.index : event.end_mark.index]
        for number, line in enumerate(LINE_BREAK.split(written)[1:], position.line + 1):
            if line.lstrip(" ").startswith("- "):
                dash = Position(number, len(line) - len(line.lstrip(" ")) + 1)
                message = f"the value of line {position.line} goes on in line {number}, which is indented by more"
                self._replace(dash, message, "indent the dashes of one list alike, or quote", path)
                return


class _Builder:
    """Makes plain data from nodes, and notes all places. Aliases become copies; merge keys (`<<`) are resolved."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._count = 0
        self._characters = 0

    def build(self, node: _Node, path: KeyPath, depth: int, key: Position | None = None) -> Any:
        self._enter(node, path, depth)
        self._source.positions.add(path, node.position, key)
        if node.tag is not None:
            self._source.tags[path] = node.tag
        if node.is_mapping:
            return self._mapping(node, path, depth)
        if isinstance(node.value, list):
            return [self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        return node.value

    def _enter(self, node: _Node, path: KeyPath, depth: int) -> None:
        """Count a value, and stop at the limits: by aliases of aliases, a page of text can mean billions of values."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise _StopReading(node.position, f"the aliases expand to more than {MAX_VALUES} values", path=path[:4])
        self._characters += sum(len(name) for name, _, _ in node.value) if node.is_mapping else _length(node.value)
        if self._characters > MAX_EXPANDED:
            message = f"the aliases expand to more than {MAX_EXPANDED // 1024} KiB"
            raise _StopReading(node.position, message, path=path[:4])
        if depth > MAX_DEPTH:
            raise _StopReading(node.position, f"the aliases nest deeper than {MAX_DEPTH} levels", path=path[:4])

    def _mapping(self, node: _Node, path: KeyPath, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: list[_Node] = []
        for name, _, value in node.value:
            if isinstance(name, _Merge):
                merged += [value] if value.is_mapping or not isinstance(value.value, list) else value.value
        # The first of several merged mappings wins, so they are applied backwards. The mapping's own keys come last.
        for other in reversed(merged):
            self._enter(other, path, depth + 1)
            if not other.is_mapping:
                message = "the merge key << takes an alias of a mapping, or a list of them"
                raise _StopReading(other.position, message, path=path)
            data |= self._mapping(other, path, depth + 1)
        for name, key, value in node.value:
            if not isinstance(name, _Merge):
                data[name] = self.build(value, (*path, name), depth + 1, key)
        return data


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else 1


def _begin(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


_CONFLICT = re.compile(r"(?m)^(?:<{7}|>{7}) ")


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-[0-9.]+", text))
