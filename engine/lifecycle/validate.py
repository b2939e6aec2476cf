"""`validate`: report everything that is wrong with a file. Starts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sandboxfile import Diagnostic, Loaded


class Checked(NamedTuple):
    """The problems of `file`, whose path is absolute. The file is valid when all problems are warnings."""

    file: Path
    valid: bool
    found: tuple[Diagnostic, ...]


def check_file(path: Path | None = None, files: Sequence[Path] = (), assignments: Sequence[str] = ()) -> Checked:
    """Check a file; default: the nearest Sandboxfile upwards. Raises EngineError when there is none."""
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
    found = (*loaded.warnings, *name_file([*_copied(loaded), *_without_git(loaded)], file))
    return Checked(file, True, found)


def _copied(loaded: Loaded) -> Iterator[Diagnostic]:
    """A warning for each path that is to be copied and cannot be. It may exist later, so the file is valid."""
    import dataclasses

    seen = set()
    for one in loaded.each():
        if not one.sandbox.services and not any(step.inputs for step in one.sandbox.setup):
            continue
        from engine.resolve.copied_paths import check_copied

        for problem in check_copied(one):
            warning = dataclasses.replace(problem, severity="warning", hint=problem.hint or "`up` refuses it")
            if warning not in seen:
                seen.add(warning)
                yield warning


def _without_git(loaded: Loaded) -> Iterator[Diagnostic]:
    from engine.resolve.git_mounts import git_warnings

    seen = set()
    for one in loaded.each():
        for warning in git_warnings(one):
            if warning not in seen:
                seen.add(warning)
                yield warning
