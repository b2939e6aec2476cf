"""Colours of the states, readable on white and on black."""

from __future__ import annotations

from engine.drawing.picture import State
from engine.report.text import cut

# Fill and stroke on a light ground, fill and stroke on a dark one.
COLOURS: dict[State, tuple[str, str, str, str]] = {
    "cached": ("#d9f2df", "#2e7d46", "#17371f", "#5fbf7c"),
    "build": ("#ffedc7", "#a86a00", "#3d2c08", "#e0a83a"),
    "not needed": ("#f2f2f2", "#8a8a8a", "#242424", "#8a8a8a"),
    "each up": ("#dcebff", "#2b66b1", "#152b49", "#6aa5ef"),
    "declared": ("#ffffff", "#6b6b6b", "#111111", "#9a9a9a"),
}
CLASSES: dict[State, str] = {state: state.replace(" ", "-") for state in COLOURS}


def wrap(text: str, width: int) -> list[str]:
    """The text in at most two lines of at most `width` characters each; what does not fit is cut."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    shown = [cut(line, width) for line in lines[:2]]
    if len(lines) > 2:
        shown[1] = f"{shown[1][: width - 3]}..."
    return shown
