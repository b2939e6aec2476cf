"""What was meant where the brackets of a text do not match, or hold what brackets cannot hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sandboxfile.positions import Position
from sandboxfile.reading.parser import NotYaml, Spot, Token, brackets_and_quotes

Found = tuple[Position, str, str]

_CLOSES = {"[": "]", "{": "}"}
_GOT = re.compile(r"but (?:found|got) '(?P<token>[^']*)'")
_VARIABLE = re.compile(r"[^\s,\[\]{}\"'$]*(?:\$\{[^{}\r\n]*\}[^\s,\[\]{}\"'$]*)+")
_NEW_KEY = re.compile(r"(?P<indent> *)[A-Za-z_][\w-]*:(?:\s|$)")


def explain_brackets(error: NotYaml, text: str, lines: Sequence[str]) -> Found | None:
    """Place, message and hint for an error of the parser that is about brackets; None for every other one."""
    match, spot = _GOT.search(error.problem), error.spot
    if match is None or spot is None or error.begin is None:
        return None
    got, here = match["token"], Position(spot.line + 1, spot.column + 1)
    opened = _open(brackets_and_quotes(text, spot.offset)) if "flow" in error.context or got in ("]", "}") else []
    if not opened:
        return _outside(got, here)
    last = opened[-1]
    if got == "{" and text[spot.offset - 1 : spot.offset] == "$":
        return _variable(lines[spot.line], spot)
    if got == "<stream end>" or _next_key(lines, last.start, spot.line) is not None:
        return _never_closed(last, _next_key(lines, last.start, spot.line))
    if got in ("]", "}"):
        message = f"the {last.text} of line {last.start.line + 1} is not closed by a {got}"
        return here, message, f"write {_CLOSES[last.text]}"
    if got == ",":
        behind_comma = text[: spot.offset].rstrip().endswith(",")
        return here, "there is no value before this comma", "remove one comma" if behind_comma else "remove it"
    if got == "-":
        return here, "inside brackets, entries have no dash", "write [a, b]"
    return here, f"the bracket of line {last.start.line + 1} is not closed before this", "a comma is missing?"


def _outside(got: str, here: Position) -> Found | None:
    if got in ("]", "}"):
        return here, f"this {got} closes no bracket", "remove it"
    return (here, "a comma outside of brackets", "remove it") if got == "," else None


def _open(tokens: Sequence[Token]) -> list[Token]:
    """The brackets that are not closed by the last of the tokens, the innermost one last."""
    opened: list[Token] = []
    for token in tokens:
        if token.text in _CLOSES:
            opened.append(token)
        elif opened and token.text in _CLOSES.values():
            opened.pop()
    return opened


def _variable(line: str, spot: Spot) -> Found:
    """The parser stands at the `{` of a `${VAR}`, which it takes for a bracket."""
    message = "inside brackets, a value with a variable must be quoted"
    for match in _VARIABLE.finditer(line):
        if match.start() <= spot.column < match.end():
            return Position(spot.line + 1, match.start() + 1), message, f'write "{match.group()}"'
    return Position(spot.line + 1, spot.column), message, 'write "${NAME}"'


def _next_key(lines: Sequence[str], opened: Spot, last: int) -> int | None:
    """The first line below that of the bracket that begins with a key, and is indented by no more than that."""
    line = lines[opened.line]
    indent = len(line) - len(line.lstrip(" "))
    for number in range(opened.line + 1, min(last + 1, len(lines))):
        if (match := _NEW_KEY.match(lines[number])) and len(match["indent"]) <= indent:
            return number
    return None


def _never_closed(bracket: Token, next_key: int | None) -> Found:
    closing = _CLOSES[bracket.text]
    hint = f"close it with {closing}" if next_key is None else f"write {closing} before line {next_key + 1}"
    return Position(bracket.start.line + 1, bracket.start.column + 1), "this bracket is never closed", hint
