"""Which of a sandbox's own files a command shows, and a word about it where the sandbox does not run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.state.layout import InstancePaths


def find_words(name: str | None) -> InstancePaths:
    """As `words_of`, with its note on standard error. Raises EngineError."""
    from engine.lifecycle.selection import open_layout, words_of
    from engine.report.text import clean_line

    paths, note = words_of(open_layout(), name)
    if note is not None:
        print(clean_line(note), file=sys.stderr)
    return paths
