"""Adding entries to a template as text, so that its comments and its style stay.

A template consists of paragraphs: each has comments and then one section. A line `#key: value`, without a space after
the `#`, is a section that is commented out; `# Text` is prose. Entries that are added to a section that is commented
out replace its example.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.starter.proposals import LISTS, Proposal
from sandboxfile.diagnostics import printable
from sandboxfile.reading.source import read_source
from sandboxfile.writing.notation import Hand

ORDER = ("version", "name", "agent", "agents", "machine", "packages", "setup", "mounts", "endpoints", "secrets",
         "services", "profiles", "volumes", "networks", "configs", "ports")  # fmt: skip
PROSE = {
    "machine": "The machine. Disk is the most that it may grow to.",
    "packages": "Debian packages that are part of the machine.",
    "setup": "Commands that prepare the machine. They run once; `up` restores their result.",
    "services": "Services in a Docker of the machine's own, as the Compose specification has them.",
    "ports": "Ports of the machine that this host's loopback address offers.",
}
REMARK_COLUMN = 40
REMARK_LENGTH = 100

_PROSE_LINE = re.compile(r"#( |$)")
_SECTION_LINE = re.compile(r"(#?)([a-z]+):")
HAND = Hand()


@dataclass
class _Paragraph:
    section: str | None
    comments: list[str]
    body: list[str]
    active: bool


@dataclass(frozen=True)
class _Entry:
    lines: tuple[str, ...]
    active: bool


@dataclass
class Draft:
    """A template to which entries are added. `_values` are the values that the template has."""

    _paragraphs: list[_Paragraph]
    _values: dict[str, Any]
    _added: dict[str, list[_Entry]] = field(default_factory=dict)

    @classmethod
    def of(cls, template: str) -> Draft:
        """A draft with the text of a template, to which nothing is added yet."""
        data = read_source(template, "template").data
        return cls([_paragraph(text) for text in re.split(r"\n{2,}", template.strip("\n"))], dict(data or {}))

    def add(self, proposals: Iterable[Proposal]) -> None:
        """Add the entries that the template does not have yet."""
        nested: dict[tuple[str, ...], list[Proposal]] = {}
        for proposal in proposals:
            if proposal.section in LISTS:
                if not any(_same(proposal.value, item) for item in self._values.get(proposal.section) or ()):
                    self._note(proposal, _item(proposal.value))
            elif len(proposal.path) == 2:
                self._note(proposal, HAND.entry(proposal.path[1], proposal.value, 2))
            elif len(proposal.path) == 1:
                self._put(proposal)
            else:
                nested.setdefault(proposal.path[:2], []).append(proposal)
        for (section, key), entries in nested.items():
            lines = [f"{key}:"]
            for entry in entries:
                lines += remarked(["  " + line for line in HAND.entry(entry.path[2], entry.value, 4)], entry.remark, 2)
            self._added.setdefault(section, []).append(_Entry(tuple(lines), True))

    def replace(self, section: str, entries: Iterable[Proposal], prose: str, extra: Sequence[str] = ()) -> None:
        """Make `entries` the only entries of a list section. `extra` are lines that are added to the last entry."""
        paragraph = self._paragraph(section)
        paragraph.comments = [f"# {prose}"]
        lines = [line for entry in entries for line in remarked(_item(entry.value, block=bool(extra)), entry.remark, 2)]
        paragraph.active = bool(lines)
        if lines:
            paragraph.body = [f"{section}:", *("  " + line for line in lines), *extra]
        else:
            paragraph.body = [line if line.startswith("#") else f"#{line}" for line in paragraph.body]

    def text(self) -> str:
        """The whole file."""
        for section, entries in self._added.items():
            _fill(self._paragraph(section), entries)
        self._added = {}
        return "\n\n".join("\n".join([*part.comments, *part.body]) for part in self._paragraphs) + "\n"

    def _note(self, proposal: Proposal, lines: list[str]) -> None:
        entry = _Entry(tuple(remarked(lines, proposal.remark, 2)), proposal.active)
        self._added.setdefault(proposal.section, []).append(entry)

    def _put(self, proposal: Proposal) -> None:
        """Set a section that is a single value."""
        paragraph = self._paragraph(proposal.section)
        paragraph.body = remarked(HAND.entry(proposal.section, proposal.value, 0), proposal.remark)
        paragraph.active = True

    def _paragraph(self, section: str) -> _Paragraph:
        for paragraph in self._paragraphs:
            if paragraph.section == section:
                return paragraph
        prose = [f"# {PROSE[section]}"] if section in PROSE else []
        made = _Paragraph(section, prose, [f"#{section}:"], False)
        before = ORDER[: ORDER.index(section)]
        index = max((i for i, part in enumerate(self._paragraphs) if part.section in before), default=0)
        self._paragraphs.insert(index + 1, made)
        return made


def _paragraph(text: str) -> _Paragraph:
    lines = text.split("\n")
    count = next((index for index, line in enumerate(lines) if not _PROSE_LINE.match(line)), len(lines))
    match = _SECTION_LINE.match(lines[count]) if count < len(lines) else None
    section = match[2] if match else None
    return _Paragraph(section, lines[:count], lines[count:], bool(match and not match[1]))


def _fill(paragraph: _Paragraph, entries: Sequence[_Entry]) -> None:
    """Add entries to a section. If all entries of a commented-out section are inactive, it stays commented out."""
    if not paragraph.active:
        active = any(entry.active for entry in entries)
        paragraph.body = [f"{'' if active else '#'}{paragraph.section}:"]
        paragraph.active = active
    for entry in entries:
        indent = "  " if entry.active else "  #" if paragraph.active else "#  "
        lines = [indent + line for line in entry.lines]
        example = re.sub(r"\s+# .*", "", f"  #{entry.lines[0]}")
        body = [line for line in paragraph.body if re.sub(r"\s+# .*", "", line) != example]
        key = re.match(r"[A-Za-z][A-Za-z0-9_-]*:", entry.lines[0])
        old = next((i for i, line in enumerate(body) if key and line.startswith(f"  {key[0]}")), None)
        paragraph.body = [*body, *lines] if old is None else [*body[:old], *lines, *body[old + 1 :]]


def _item(value: Any, block: bool = False) -> list[str]:
    """The lines of a list item. A mapping is a block if it has `run`, if one line would be long, or with `block`."""
    flow = HAND.flow(value)
    if not isinstance(value, dict) or (len(flow) <= 60 and "run" not in value and not block):
        return [f"- {flow}"]
    lines = HAND.block(value, 2)
    return [f"- {lines[0]}", *(f"  {line}" for line in lines[1:])]


def remarked(lines: list[str], remark: str, column: int = 0) -> list[str]:
    """The lines, with the remark as a comment behind the first one. `column` is where the lines will begin."""
    if not remark:
        return lines
    shown = _shortened(printable(remark))
    return [f"{lines[0]:<{REMARK_COLUMN - column - 1}} # {shown}", *lines[1:]]


def _shortened(remark: str) -> str:
    """The beginning of a long remark, up to a word's end; an address is whole, or not there."""
    if len(remark) <= REMARK_LENGTH:
        return remark
    start = remark.rfind(" ", 0, REMARK_LENGTH + 1) + 1
    word = remark[start:].partition(" ")[0]
    if "://" in word and len(word) <= REMARK_LENGTH:
        return remark[: start + len(word)]
    return remark[:start].rstrip(" ;,:") or remark[:REMARK_LENGTH]


def _same(one: Any, other: Any) -> bool:
    """Whether two entries of a list are equal, or about the same host, group or target."""

    def identity(value: Any) -> Any:
        if isinstance(value, dict):
            return value.get("host") or value.get("group") or value.get("target") or value
        return value

    return bool(identity(one) == identity(other))
