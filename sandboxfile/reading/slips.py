"""What was meant by a text that is no YAML: the slip behind the library's words, and the line that has it.

The library notices a slip where the text stops making sense, which is often a good line below the bad one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sandboxfile.diagnostics import quote
from sandboxfile.positions import Position
from sandboxfile.reading.brackets import explain_brackets
from sandboxfile.reading.parser import NotYaml, Spot, brackets_and_quotes
from sandboxfile.reading.utf8 import LINE_BREAK

GLUED_DASH = re.compile(r"[ ]*-(?=(?P<word>[^\s-]\S*))")

_ODD_SPACE = re.compile("[\xa0\u1680\u2000-\u200b\u202f\u205f\u3000]")
_GLUED = re.compile(r"""[ ]*(?:- +)?(?P<quote>["']?)(?P<key>[A-Za-z_][\w-]*)(?P=quote) *:(?=[^\s/])""")
_VALUE_BEFORE = re.compile(r"[ ]*(?:- +)*(?P<key>[A-Za-z_][\w.-]*): +[^\s{\[]")
_DASHES = re.compile(r"[ ]*(?:-[ ]+)*")
_KEY = re.compile(r"""[ ]*(?:- +)*(?:[^\s#"'-][^#]*?|"[^"]*"|'[^']*')[ \t]*:(?:\s|$)""")
_NO_COLON = re.compile(r"(?P<key>[A-Za-z_][\w-]{0,40})(?:(?: *= *| +)(?P<rest>[^\s:].*))?")
# The sections of the file: alone in a line below a list, they are keys, and other words may be entries of the list.
_SECTIONS = (
    *("version", "name", "agent", "agents", "machine", "packages", "setup", "mounts", "endpoints", "secrets"),
    *("services", "profiles", "volumes", "networks", "configs", "ports"),
)


class Slip(NamedTuple):
    """A problem of the text, with what can be done about it."""

    position: Position
    message: str
    hint: str | None = None


def explain(error: NotYaml, text: str) -> Slip:
    """The slip behind an error of the parser."""
    lines, spot = LINE_BREAK.split(text), error.spot or Spot(0, 0, 0)
    position = Position(spot.line + 1, spot.column + 1)
    places = [each.line for each in (error.begin, error.spot) if each and each.line < len(lines)]
    for line in dict.fromkeys(places):
        if (slip := _odd_line(lines[line], line + 1)) is not None:
            return slip
    if "'\\t' that cannot start" in error.problem:
        indents = not lines[spot.line][: spot.column].strip(" ")
        return Slip(position, "a tab cannot indent YAML" if indents else "a tab where a space must be", "use spaces")
    if (found := explain_brackets(error, text, lines)) is not None:
        return Slip(*found)
    if (slip := _key(error, lines, spot)) is not None:
        return slip
    if "quoted scalar" in error.context and "end of stream" in error.problem and error.begin:
        return Slip(Position(error.begin.line + 1, error.begin.column + 1), "this quote is never closed")
    if "cannot start any token" in error.problem:
        return Slip(position, f"no value can begin with {quote(text[spot.offset : spot.offset + 1])}", "quote it")
    if error.begin and "while parsing a" in error.context and error.problem.startswith("expected"):
        if (slip := _behind_a_value(text, lines, spot)) is not None:
            return slip
        block = f"does not fit into the block that begins in line {error.begin.line + 1}"
        return Slip(position, block, "indent its lines alike")
    return Slip(position, f"not valid YAML: {error}")


def glued_key(lines: Sequence[str], number: int) -> Slip | None:
    """The slip in the line with this index, if it has no space after the colon of its key."""
    if not 0 <= number < len(lines) or (match := _GLUED.match(lines[number])) is None:
        return None
    return Slip(Position(number + 1, match.end()), f"a space is missing after `{match['key']}:`")


def _odd_line(line: str, number: int) -> Slip | None:
    if space := _ODD_SPACE.search(line):
        name = "a no-break space" if space.group() == "\xa0" else "an unusual space"
        at = Position(number, space.start() + 1)
        return Slip(at, f"{name} (U+{ord(space.group()):04X}), which YAML takes for text", "write a space")
    if dash := GLUED_DASH.match(line):
        return Slip(Position(number, dash.end()), "a space is missing after the dash", f"write - {dash['word']}")
    return None


def _key(error: NotYaml, lines: Sequence[str], spot: Spot) -> Slip | None:
    """The slip in what should be `key: value`."""
    begin = error.begin
    if "could not find expected ':'" in error.problem and begin and begin.line < len(lines):
        return _no_key(lines, _first_of_glued(lines, begin.line))
    after_comment = "found '<block mapping start>'" in error.problem  # a comment ends the text that goes on
    if spot.line >= len(lines) or not (after_comment or "mapping values are not allowed here" in error.problem):
        return None
    if (same := _VALUE_BEFORE.match(lines[spot.line][: spot.column])) is not None:
        message = f"a second `: ` in the value of {quote(same['key'])}"
        hint = "quote the value, or begin another key on a line of its own"
        return Slip(Position(spot.line + 1, spot.column + 1), message, hint)
    first = _text_above(lines, spot.line)
    if first is not None and (slip := glued_key(lines, first) or _without_colon(lines, first)) is not None:
        return slip
    if after_comment:
        return None
    if (slip := glued_key(lines, spot.line)) is not None:
        return slip
    hint = "indent the lines of one mapping alike, or quote"
    return Slip(Position(spot.line + 1, spot.column + 1), "a second `key:` in one value", hint)


def _first_of_glued(lines: Sequence[str], number: int) -> int:
    while number > 0 and _GLUED.match(lines[number]) and _GLUED.match(lines[number - 1]):
        number -= 1
    return number


def _text_above(lines: Sequence[str], number: int) -> int | None:
    """The first of the lines above that the parser took for one text, together with the beginning of this line.

    None where that text is the value of a key: then it is this line that is too much.
    """
    column, first = _column(lines[number]), None
    while number > 0 and "-" not in lines[number][:column]:
        number -= 1
        line = lines[number]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if _column(line) != column or _KEY.match(line):
            return first if _column(line) >= column or not _VALUE_BEFORE.match(line) else None
        first = number
    return first


def _column(line: str) -> int:
    """The column of the first character that is no dash of a list."""
    match = _DASHES.match(line)
    return match.end() if match else 0


def _no_key(lines: Sequence[str], number: int) -> Slip:
    """The slip in a line that stands where a key must."""
    line = lines[number]
    indent, text = len(line) - len(line.lstrip(" ")), line.strip()
    if (slip := glued_key(lines, number)) is not None:
        return slip
    position = Position(number + 1, indent + 1)
    match = _NO_COLON.fullmatch(text)
    named = match is not None and match["key"] in _SECTIONS
    if not named and _is_below_entry(lines, number, indent):
        message = "this line is neither a key nor an entry of the list"
        return Slip(position, message, f"write - {text}; if it goes on with the entry above, indent it further")
    return _without_colon(lines, number) or Slip(position, "this line is no key with a value")


def _is_below_entry(lines: Sequence[str], number: int, indent: int) -> bool:
    """Whether the nearest line above belongs to a list whose dash stands in this column, or further right."""
    for line in reversed(lines[:number]):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        dash = len(line) - len(line.lstrip(" "))
        if dash < indent:
            return False
        if line.lstrip(" ").startswith("- "):
            return True
        if dash == indent:
            return False
    return False


def _without_colon(lines: Sequence[str], number: int) -> Slip | None:
    line = lines[number]
    match = _NO_COLON.fullmatch(line.rstrip(), _column(line))
    if match is None:
        return None
    key, rest = match["key"], match["rest"]
    value = "" if rest is None else f" {rest}"
    return Slip(
        Position(number + 1, match.end("key") + 1), f"a colon is missing after {quote(key)}", f"write {key}:{value}"
    )


def _behind_a_value(text: str, lines: Sequence[str], spot: Spot) -> Slip | None:
    """The slip in what follows a quoted text, or brackets, in the same line."""
    if spot.line >= len(lines) or not _DASHES.sub("", lines[spot.line][: spot.column], count=1).strip():
        return None
    tokens = brackets_and_quotes(text, spot.offset)
    position = Position(spot.line + 1, spot.column + 1)
    if not tokens or text[tokens[-1].end.offset : spot.offset].strip():
        return Slip(position, "does not fit behind the value before it", "quote the whole value")
    last = tokens[-1]
    if last.text in ("]", "}"):
        return Slip(position, "the bracket is closed before this", "remove what follows, or quote it all")
    if last.start.line < spot.line:
        begin = Position(last.start.line + 1, last.start.column + 1)
        message = f"this quote is closed only in line {last.end.line + 1}"
        return Slip(begin, message, "close it in its own line")
    inside = '\\"' if last.text == '"' else "''"
    hint = f"quote it once; a {last.text} inside is written {inside}"
    return Slip(position, "the quoted text ends before this", hint)
