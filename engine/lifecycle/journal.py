"""`journal`: the decisions of a sandbox's gateway, oldest first."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NO_REFUSALS = ("allowed", "changed", "asked")


def journal_files(journal: Path) -> list[Path]:
    """The files of a journal, oldest first.

    When a file is full, the gateway starts a new one and numbers the old ones.
    """
    return [*sorted(journal.parent.glob(f"{journal.name}.[0-9]"), reverse=True), journal]


def journal_lines(journal: Path, *, refused: bool = False) -> Iterator[dict[str, Any]]:
    """Each decision as the gateway wrote it; with `refused`, only what was refused or failed.

    Damaged lines are left out. The guest chose the names and paths in the lines. docs/cli.md lists the keys.
    """
    for path in journal_files(journal):
        with contextlib.suppress(FileNotFoundError), path.open(errors="replace", newline="\n") as file:
            for text in file:
                with contextlib.suppress(ValueError):
                    line = json.loads(text)
                    if isinstance(line, dict) and not (refused and line.get("verdict") in _NO_REFUSALS):
                        yield line
