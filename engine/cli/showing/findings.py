"""The warnings about a file, which keep nobody from using it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.showing.emphasis import emphasize

if TYPE_CHECKING:
    from sandboxfile import Diagnostic


def show(warnings: Iterable[Diagnostic], file: Path) -> None:
    """Print warnings about `file`, and about the files that lie over it, to standard error."""
    from engine.lifecycle.project_file import name_file

    for warning in name_file(warnings, file):
        text = warning.render().replace("warning:", emphasize("warning:", "yellow", sys.stderr), 1)
        print(text, file=sys.stderr)
