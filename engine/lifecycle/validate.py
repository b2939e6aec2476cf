"""`validate`: everything that is wrong with a file, or that this version cannot do yet. Starts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sandboxfile import Diagnostic, Loaded


class Checked(NamedTuple):
    """What was found in `file`, whose path is absolute. It is valid when all that was found are warnings."""

    file: Path
    valid: bool
    found: tuple[Diagnostic, ...]


def check_file(path: Path | None = None, files: Sequence[Path] = (), assignments: Sequence[str] = ()) -> Checked:
    """Look at a file, the nearest one upwards by default. Raises EngineError where there is none."""
    from engine.agents.use import unknown_agents
    from engine.lifecycle.project_file import load_file, locate, name_file
    from sandboxfile import SandboxfileError

    file = locate(path)
    try:
        loaded = load_file(path, files, assignments)
        if wrong := name_file(unknown_agents(loaded), file):
            raise SandboxfileError(wrong)
    except SandboxfileError as error:
        return Checked(file, False, tuple(error.diagnostics))
    return Checked(file, True, (*loaded.warnings, *_not_yet(loaded), *name_file(_copied(loaded), file)))


def _not_yet(loaded: Loaded) -> Iterator[Diagnostic]:
    import dataclasses

    from sandboxfile import not_yet

    seen = set()
    for one in loaded.each():
        for path, message in not_yet(one.sandbox):
            found = dataclasses.replace(one.diagnostic(path, message, "`up` refuses it"), severity="warning")
            if found not in seen:
                seen.add(found)
                yield found


def _copied(loaded: Loaded) -> Iterator[Diagnostic]:
    """What the file names to be copied and is not there: it may come later, so the file is valid."""
    import dataclasses

    seen = set()
    for one in loaded.each():
        if not one.sandbox.services and not any(step.inputs for step in one.sandbox.setup):
            continue
        from engine.resolve.copied_paths import check_copied

        for problem in check_copied(one):
            found = dataclasses.replace(problem, severity="warning", hint=problem.hint or "`up` refuses it")
            if found not in seen:
                seen.add(found)
                yield found
