"""Where the boxes and lines of a picture go.

The boxes are in rows from top to bottom, in an order with few crossings. A line that crosses a row passes between
boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.drawing.picture import Picture

BOX_WIDTH, BOX_HEIGHT = 210, 54
GAP_X, GAP_Y = 26, 42
_PASS_WIDTH = 18  # the room in a row for a line that passes through
_SWEEPS = 8  # passes over all rows, downwards and upwards in turn


@dataclass(frozen=True)
class Point:
    x: float
    y: float


@dataclass(frozen=True)
class Spot:
    """The upper left corners of the boxes, the points of each line (need, part), and the size of the picture."""

    boxes: Mapping[str, Point]
    lines: Mapping[tuple[str, str], Sequence[Point]]
    width: float
    height: float


# A cell of a row: the id of a part, or (need, part, row) for a line that passes through the row.
_Cell = str | tuple[str, str, int]


def lay_out(picture: Picture) -> Spot:
    """Compute all places. Equal pictures give equal places."""
    rows, links = _rows(picture)
    _untangle(rows, links)
    middles = _spread(rows, links)
    left = min(middles[cell] - _width(cell) / 2 for row in rows for cell in row)
    right = max(middles[cell] + _width(cell) / 2 for row in rows for cell in row)
    centre = {cell: middle - left for cell, middle in middles.items()}
    top = {cell: index * (BOX_HEIGHT + GAP_Y) for index, row in enumerate(rows) for cell in row}
    boxes = {part.id: Point(centre[part.id] - BOX_WIDTH / 2, top[part.id]) for part in picture.parts}
    lines = {}
    for part in picture.parts:
        for need in picture.lines[part.id]:
            cells = [(need, part.id, row) for row in range(picture.layers[need] + 1, picture.layers[part.id])]
            through = [Point(centre[cell], y) for cell in cells for y in (top[cell], top[cell] + BOX_HEIGHT)]
            start, end = Point(centre[need], top[need] + BOX_HEIGHT), Point(centre[part.id], top[part.id])
            lines[need, part.id] = [start, *through, end]
    return Spot(boxes, lines, right - left, len(rows) * (BOX_HEIGHT + GAP_Y) - GAP_Y)


def _rows(picture: Picture) -> tuple[list[list[_Cell]], list[tuple[_Cell, _Cell]]]:
    """The cells of each row, and the pairs of cells of neighbouring rows that are linked."""
    layers = picture.layers
    rows: list[list[_Cell]] = [[] for _ in range(max(layers.values(), default=0) + 1)]
    links: list[tuple[_Cell, _Cell]] = []
    for part in picture.parts:
        rows[layers[part.id]].append(part.id)
    for part in picture.parts:
        for need in picture.lines[part.id]:
            before: _Cell = need
            for row in range(layers[need] + 1, layers[part.id]):
                cell = (need, part.id, row)
                rows[row].append(cell)
                links.append((before, cell))
                before = cell
            links.append((before, part.id))
    return rows, links


def _untangle(rows: list[list[_Cell]], links: Sequence[tuple[_Cell, _Cell]]) -> None:
    """Order the cells of each row by the mean place of the cells that they are linked with."""
    above, below = _neighbours(links)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        near = above if downwards else below
        for row in rows if downwards else reversed(rows):
            place = {cell: index for line in rows for index, cell in enumerate(line)}
            own = {cell: index for index, cell in enumerate(row)}
            row.sort(key=lambda cell: (_mean([place[other] for other in near.get(cell, [])], own[cell]), own[cell]))


def _spread(rows: Sequence[Sequence[_Cell]], links: Sequence[tuple[_Cell, _Cell]]) -> dict[_Cell, float]:
    """The middles of all cells: near the cells that they are linked with, without overlaps."""
    above, below = _neighbours(links)
    middle: dict[_Cell, float] = {}
    for row in rows:
        x = 0.0
        for cell in row:
            middle[cell] = x + _width(cell) / 2
            x += _width(cell) + GAP_X
        middle |= {cell: middle[cell] - (x - GAP_X) / 2 for cell in row}
    for sweep in range(_SWEEPS):
        near = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wish = {cell: _mean([middle[other] for other in near.get(cell, [])], middle[cell]) for cell in row}
            middle |= _apart(row, wish)
    return middle


def _apart(row: Sequence[_Cell], wish: Mapping[_Cell, float]) -> dict[_Cell, float]:
    """Places near the wishes that keep the order and do not overlap.

    Cells that overlap are pushed apart to the right, and in a second run to the left; the result is the mean of both.
    """
    right: dict[_Cell, float] = {}
    left: dict[_Cell, float] = {}
    edge = float("-inf")
    for cell in row:
        right[cell] = max(wish[cell], edge + _width(cell) / 2)
        edge = right[cell] + _width(cell) / 2 + GAP_X
    edge = float("inf")
    for cell in reversed(row):
        left[cell] = min(wish[cell], edge - _width(cell) / 2)
        edge = left[cell] - _width(cell) / 2 - GAP_X
    return {cell: (left[cell] + right[cell]) / 2 for cell in row}


def _neighbours(links: Sequence[tuple[_Cell, _Cell]]) -> tuple[dict[_Cell, list[_Cell]], dict[_Cell, list[_Cell]]]:
    above: dict[_Cell, list[_Cell]] = {}
    below: dict[_Cell, list[_Cell]] = {}
    for upper, lower in links:
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    return above, below


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _width(cell: _Cell) -> float:
    return BOX_WIDTH if isinstance(cell, str) else _PASS_WIDTH
