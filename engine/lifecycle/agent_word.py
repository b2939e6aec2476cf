"""`up PATH` and `up AGENT`: what the one word means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from sandboxfile import Loaded


def load_for(
    word: Path | None, agent: str | None, files: tuple[Path, ...], assignments: tuple[str, ...]
) -> tuple[Loaded, str | None]:
    """The file at `word`, and `agent`; or the nearest file, and the one of its `agents` that `word` names.

    Raises EngineError (exit code 2) for a word that could mean both; SandboxfileError as `load_file` does.
    """
    from engine.lifecycle.members import pick
    from engine.lifecycle.project_file import load_file
    from sandboxfile import SandboxfileError

    if word is None or agent is not None or word.parts != (word.name,):
        return load_file(word, files, assignments), agent
    try:
        nearest = load_file(None, files, assignments)
    except (EngineError, SandboxfileError):
        if not word.exists():
            raise
        return load_file(word, files, assignments), None  # what is wrong with another file is no matter
    if word.exists():
        if word.name in {one.agent_name for one in nearest.members}:
            hint = f"`sandbox up {word.absolute()}` means the path, `sandbox up --agent {word}` the agent"
            raise EngineError(f"{word} is a path here and an agent of the file", hint=hint, exit_code=2)
        return load_file(word, files, assignments), None
    if nearest.members:
        pick(nearest, word.name)
        return nearest, word.name
    return load_file(word, files, assignments), None
