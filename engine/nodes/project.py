"""Paths that a Sandboxfile names inside its project."""

from __future__ import annotations

from pathlib import Path

from engine.errors import EngineError


def inside(project: Path, relative: str) -> Path:
    """The real path of `relative` below `project`.

    Raises EngineError (exit code 2) when it does not exist or leads out of the project, also through a symlink: the
    file is untrusted, and what it names is copied into the guest.
    """
    path = (project / relative).resolve()
    if not path.is_relative_to(project.resolve()):
        raise EngineError(f"{relative} leads out of the project ({path})", exit_code=2)
    if not path.exists():
        raise EngineError(f"{relative} does not exist in {project}", exit_code=2)
    return path
