"""Whether Compose files can be included as they are, and which variables they need for that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.starter.assembly import problems_of
from engine.starter.proposals import Findings
from sandboxfile.diagnostics import Diagnostic
from sandboxfile.writing.notation import Hand

_MOST_ROUNDS = 5  # a default can name another variable
_UNSET = re.compile(r"the variable ([A-Za-z_][A-Za-z0-9_]*) is not set")


def include_problems(
    found: Findings, include: str | Sequence[str], path: Path, without: str | None = None
) -> tuple[Diagnostic, ...]:
    """The problems of a Sandboxfile at `path` that includes these files, leaving out the service `without`.

    A variable that a file demands, and that is not set, is no problem: it gets a note, and the file is usable once it
    is set.
    """
    services: dict[str, Any] = {"include": include} | ({without: None} if without else {})
    return problems_with(found, {"services": services}, path)


def problems_with(found: Findings, document: dict[str, Any], path: Path) -> tuple[Diagnostic, ...]:
    """The problems of a Sandboxfile at `path` with these sections; variables are treated as above."""
    lines = [line for key, value in document.items() for line in Hand().entry(key, value, 0)]
    text = "\n".join(['version: "1"', *lines, ""])
    for _ in range(_MOST_ROUNDS):
        problems = problems_of(text, path, found.variables)
        unset = {match[1] for problem in problems if (match := _UNSET.search(problem.message))} - found.variables
        if not unset:
            break
        found.variables |= unset
    return problems


def note_variables(found: Findings, seen: str) -> None:
    """Note the variables that have to be set before `up`."""
    if found.variables:
        names = ", ".join(sorted(found.variables))
        found.note(f"{seen} demands {names}: set what is missing in .env or in your environment before `sandbox up`")
