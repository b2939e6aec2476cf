"""A picture as one SVG file that needs no script, no font and no other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from engine.drawing.layout import BOX_HEIGHT, BOX_WIDTH, Point, Spot, lay_out
from engine.drawing.palette import CLASSES, COLOURS, wrap
from engine.drawing.picture import Picture, PicturePart

_MARGIN, _HEADING = 24, 30
_CHARACTERS = 30  # in a line of a box


def draw_svg(pictures: Sequence[Picture]) -> str:
    """The sandboxes beside each other, on a light or a dark ground as the reader's system prefers.

    Names are escaped, so they cannot become markup.
    """
    groups, x, height = [], float(_MARGIN), 0.0
    for picture in (each.condensed() for each in pictures):
        placed = lay_out(picture)
        groups += [f'<g transform="translate({_number(x)} {_MARGIN})">', *_group(picture, placed), "</g>"]
        x += max(placed.width, BOX_WIDTH) + _MARGIN
        height = max(height, placed.height + _HEADING)
    size = f"{_number(x)} {_number(height + 2 * _MARGIN)}"
    wide, high = size.split()
    names = escape(", ".join(picture.name for picture in pictures))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {size}"'
    lines = [
        f'{head} role="img">',
        f"<title>{names}</title>",
        f"<style>{_style()}</style>",
        '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker></defs>',
        '<rect class="ground" width="100%" height="100%"/>',
        *groups,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _group(picture: Picture, placed: Spot) -> Iterator[str]:
    yield f'<text class="name" x="0" y="14">{escape(picture.name)}</text>'
    yield f'<g transform="translate(0 {_HEADING})">'
    for points in placed.lines.values():
        yield f'<path class="line" marker-end="url(#end)" d="{_curve(points)}"/>'
    for part in picture.parts:
        yield from _box(part, placed.boxes[part.id])
    yield "</g>"


def _box(part: PicturePart, corner: Point) -> Iterator[str]:
    lines = wrap(part.title, _CHARACTERS)
    middle = corner.x + BOX_WIDTH / 2
    hint = ": ".join(filter(None, (part.title, part.note)))
    yield f'<g class="{CLASSES[part.state]}"><title>{escape(f"{part.kind}, {part.state}. {hint}")}</title>'
    yield (
        f'<rect class="box" x="{_number(corner.x)}" y="{_number(corner.y)}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}"'
        ' rx="7"/>'
    )
    yield f'<text class="kind" x="{_number(middle)}" y="{_number(corner.y + 15)}">{escape(part.kind)}</text>'
    for index, line in enumerate(lines):
        y = corner.y + (36 if len(lines) == 1 else 30 + 15 * index)
        yield f'<text x="{_number(middle)}" y="{_number(y)}">{escape(line)}</text>'
    yield "</g>"


def _curve(points: Sequence[Point]) -> str:
    """A line through the points: straight past boxes, and a smooth step between rows."""
    path = f"M{_number(points[0].x)} {_number(points[0].y)}"
    for one, other in pairwise(points):
        y = (one.y + other.y) / 2
        if one.x == other.x:
            path += f"V{_number(other.y)}"
        else:
            bend = f"{_number(one.x)} {_number(y)} {_number(other.x)} {_number(y)}"
            path += f"C{bend} {_number(other.x)} {_number(other.y)}"
    return path


def _style() -> str:
    light = "".join(f".{CLASSES[s]} .box{{fill:{f};stroke:{e}}}" for s, (f, e, _, _) in COLOURS.items())
    dark = "".join(f".{CLASSES[s]} .box{{fill:{f};stroke:{e}}}" for s, (_, _, f, e) in COLOURS.items())
    return (
        "text{font:12px system-ui,sans-serif;fill:#1b1b1b;text-anchor:middle}.kind{font-size:10px;opacity:.7}"
        ".name{font-size:15px;font-weight:600;text-anchor:start}.line{fill:none;stroke:#8a8a8a;stroke-width:1.2}"
        ".head{fill:#8a8a8a}.ground{fill:#fff}.box{stroke-width:1.3}.build .box{stroke-dasharray:5 3}"
        f"{light}"
        f"@media(prefers-color-scheme:dark){{.ground{{fill:#0d1117}}text{{fill:#e6e6e6}}{dark}}}"
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
