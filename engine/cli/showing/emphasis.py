"""Colour, where it helps and is wanted: on a terminal that is not dumb, without NO_COLOR."""

from __future__ import annotations

import os
from typing import TextIO


def wants_colour(stream: TextIO) -> bool:
    """https://no-color.org: NO_COLOR counts when it is set and not empty."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def emphasize(text: str, colour: str, stream: TextIO) -> str:
    """`text`, bold and in `colour` where `stream` shows colours."""
    if not wants_colour(stream):
        return text
    import click

    return click.style(text, fg=colour, bold=True)
