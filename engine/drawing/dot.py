"""A picture in the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.drawing.palette import COLOURS, wrap
from engine.drawing.picture import Picture, PicturePart

_WIDTH = 32  # characters in a line of a label


def draw_dot(pictures: Sequence[Picture]) -> str:
    """One digraph with a cluster for each sandbox. Names of parts may hold any character, so only labels have them."""
    lines = [
        "digraph sandbox {",
        '  graph [fontname="sans-serif"];',
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11];',
    ]
    for number, picture in enumerate(each.condensed() for each in pictures):
        lines += [f"  {line}" for line in _cluster(picture, number)]
    return "\n".join([*lines, "}"]) + "\n"


def _cluster(picture: Picture, number: int) -> Iterator[str]:
    names = {part.id: f"n{number}_{index}" for index, part in enumerate(picture.parts)}
    yield f"subgraph cluster_{number} {{"
    yield f"  label={_quote([picture.name])};"
    for part in picture.parts:
        fill, stroke, _, _ = COLOURS[part.state]
        style = ', style="rounded,filled,dashed"' if part.state == "build" else ""
        yield f'  {names[part.id]} [label={_quote(_label(part))}, fillcolor="{fill}", color="{stroke}"{style}];'
    for id, needs in picture.lines.items():
        yield from (f"  {names[need]} -> {names[id]};" for need in needs)
    yield "}"


def _label(part: PicturePart) -> list[str]:
    return [part.kind, *wrap(part.title, _WIDTH)]


def _quote(lines: Sequence[str]) -> str:
    """The lines as a quoted label. A backslash would begin an escape, an ampersand an entity."""
    escaped = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
