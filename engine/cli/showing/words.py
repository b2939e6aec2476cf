"""Finding the logs that `console` and `journal` show."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.state.instance_paths import InstancePaths


def find_words(name: str | None) -> InstancePaths:
    """The files that `words_of` returns; its note goes to standard error. Raises EngineError."""
    from engine.lifecycle.selection import open_layout, words_of
    from engine.report.text import clean_line

    paths, note = words_of(open_layout(), name)
    if note is not None:
        print(clean_line(note), file=sys.stderr)
    return paths
