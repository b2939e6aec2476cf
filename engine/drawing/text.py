"""A picture as lines of text: one line for each part, in an order in which the parts could be made.

The longest path from the first part to the last, the spine, runs down the left side; each part of it needs the one
above. All other parts branch off. The end of a line names whatever else the part needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from engine.drawing.picture import Picture, PicturePart, State
from engine.report.text import cut

Paint = Callable[[str, State], str]

_SIGNS: dict[State, str] = {"cached": "●", "build": "○", "not needed": "·", "each up": "◆", "declared": "◇"}
_PLAIN_SIGNS: dict[State, str] = {"cached": "*", "build": "o", "not needed": ".", "each up": "+", "declared": "-"}
_MEANING: dict[State, str] = {
    "cached": "cached",
    "build": "to build",
    "not needed": "not needed, as what needs it is cached",
    "each up": "made by each `up`",
    "declared": "from the file",
}
_PLAIN = str.maketrans("│├└─", "||`-")
_LABEL, _TITLE = 24, 60  # characters; longer texts are cut
_LISTED = 3  # parts of one kind that are named; more of them are counted


def draw_text(pictures: Sequence[Picture], *, paint: Paint | None = None, plain: bool = False) -> str:
    """The pictures and a legend. `paint` colours a sign by its state; `plain` uses ASCII characters only."""
    paint = paint or (lambda text, state: text)
    signs = _PLAIN_SIGNS if plain else _SIGNS
    drawn = "\n".join(_draw(picture, signs, paint, plain) for picture in pictures)
    count = Counter(part.state for picture in pictures for part in picture.parts)
    known = [state for state in _MEANING if count[state]]
    legend = "   ".join(f"{paint(signs[state], state)} {count[state]} {_MEANING[state]}" for state in known)
    return f"{drawn}\n{legend}\n"


def _draw(picture: Picture, signs: dict[State, str], paint: Paint, plain: bool) -> str:
    spine = _spine(picture)
    rows = _rows(picture, spine)
    last = max((index for index, part in enumerate(rows) if part.id in spine), default=0)
    width = max(len(_label(part)) + (0 if part.id in spine else 2) for part in rows)
    above, lines = "", [picture.name]
    for index, part in enumerate(rows):
        on_spine = part.id in spine
        stem = "" if on_spine else "└─" if index == len(rows) - 1 and index > last else "├─"
        stem = stem.translate(_PLAIN) if plain else stem
        label = _label(part).ljust(width - len(stem))
        lines.append(f"  {stem}{paint(signs[part.state], part.state)} {label}  {_say(picture, part, above)}".rstrip())
        above = part.id if on_spine else above
    return "\n".join(lines) + "\n"


def _say(picture: Picture, part: PicturePart, above: str) -> str:
    parts = {other.id: other for other in picture.parts}
    others = _names([parts[need] for need in picture.lines[part.id] if need != above])
    note = part.note if part.state not in ("cached", "not needed") else ""
    return ", ".join(filter(None, [cut(part.title, _TITLE), note, f"after {others}" if others else ""]))


def _names(parts: Sequence[PicturePart]) -> str:
    """The names of the parts. Where there are many parts of one kind, only their number."""
    count = Counter(part.kind for part in parts)
    many = [f"{number} {kind}s" for kind, number in count.items() if number > _LISTED]
    return ", ".join([*(_full(part) for part in parts if count[part.kind] <= _LISTED), *many])


def _spine(picture: Picture) -> set[str]:
    """The ids of the parts on the longest path."""
    depth: dict[str, int] = {}
    for part in picture.parts:
        depth[part.id] = max((depth[need] + 1 for need in picture.lines[part.id]), default=0)
    here = max(reversed(picture.parts), key=lambda part: depth[part.id]).id
    spine = {here}
    while needs := picture.lines[here]:
        here = max(needs, key=lambda need: depth[need])
        spine.add(here)
    return spine


def _rows(picture: Picture, spine: set[str]) -> list[PicturePart]:
    """The parts in the order of their lines.

    A branch stands right before the first part of the spine that needs it; where none does, right after the last part
    that the branch needs.
    """
    behind: dict[str, set[str]] = {}
    for part in picture.parts:
        behind[part.id] = set(part.needs).union(*(behind[need] for need in part.needs))
    way = [part for part in picture.parts if part.id in spine]
    place = {part.id: 2.0 * index for index, part in enumerate(way)}
    for part in picture.parts:
        if part.id not in spine:
            before = [place[other.id] - 1 for other in way if part.id in behind[other.id]]
            place[part.id] = before[0] if before else max((place[need] for need in part.needs), default=-1) + 0.5
    return sorted(picture.parts, key=lambda part: place[part.id])


def _label(part: PicturePart) -> str:
    """The label of a part: nodes of the build have their id, all other parts their kind."""
    return cut(part.kind if part.state in ("each up", "declared") else part.id, _LABEL)


def _full(part: PicturePart) -> str:
    return cut(f"{_label(part)} {part.title}" if ":" in part.id else _label(part), _TITLE)
