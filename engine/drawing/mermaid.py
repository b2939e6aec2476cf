"""A picture as a Mermaid flowchart, which code hosts and editors draw in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.drawing.palette import CLASSES, COLOURS, wrap
from engine.drawing.picture import Picture

_WIDTH = 32  # characters in a line of a label
# Characters with a meaning even inside quotes: entities, tags, Markdown.
_SPECIAL = frozenset('"#&<>`\\;{}[]()|*_~')


def draw_mermaid(pictures: Sequence[Picture]) -> str:
    """One flowchart with a subgraph for each sandbox.

    Names of parts may hold any character, so only quoted labels have them.
    """
    lines = ["flowchart TB"]
    for number, picture in enumerate(each.condensed() for each in pictures):
        lines += [f"  {line}" for line in _subgraph(picture, number)]
    for state, name in CLASSES.items():
        fill, stroke, _, _ = COLOURS[state]
        lines.append(f"  classDef {name} fill:{fill},stroke:{stroke},color:#000")
    return "\n".join(lines) + "\n"


def _subgraph(picture: Picture, number: int) -> Iterator[str]:
    names = {part.id: f"n{number}_{index}" for index, part in enumerate(picture.parts)}
    yield f'subgraph s{number}["{_escape(picture.name)}"]'
    for part in picture.parts:
        label = "<br/>".join(map(_escape, [part.kind, *wrap(part.title, _WIDTH)]))
        yield f'  {names[part.id]}["{label}"]:::{CLASSES[part.state]}'
    for id, needs in picture.lines.items():
        yield from (f"  {names[need]} --> {names[id]}" for need in needs)
    yield "end"


def _escape(text: str) -> str:
    return "".join(f"#{ord(char)};" if char in _SPECIAL else char for char in text)
