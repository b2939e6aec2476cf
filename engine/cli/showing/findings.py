"""The warnings about a file, which keep nobody from using it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.showing.emphasis import columns_of, emphasize

if TYPE_CHECKING:
    from sandboxfile import Diagnostic


def show(warnings: Iterable[Diagnostic], file: Path) -> None:
    """Print warnings about `file`, and about the files that lie over it, to standard error."""
    from engine.lifecycle.project_file import name_file

    columns = columns_of(sys.stderr)
    for warning in name_file(warnings, file):
        text = warning.render(columns).replace("warning:", emphasize("warning:", "yellow", sys.stderr), 1)
        print(text, file=sys.stderr)
