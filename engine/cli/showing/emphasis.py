"""Colour, on a terminal that is not dumb, and not where NO_COLOR is set."""

from __future__ import annotations

import os
from typing import TextIO


def wants_colour(stream: TextIO) -> bool:
    """Whether to print colours to `stream`. NO_COLOR counts unless it is empty, see https://no-color.org."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def emphasize(text: str, colour: str, stream: TextIO) -> str:
    """`text`, bold and in `colour` where `stream` shows colours."""
    if not wants_colour(stream):
        return text
    import click

    return click.style(text, fg=colour, bold=True)


def columns_of(stream: TextIO) -> int | None:
    """How wide the terminal is that the stream writes to; None where it is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None
