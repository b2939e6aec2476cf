"""What `sandbox validate` does, without the command line's library: editors and commit hooks call it all day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandboxfile import Diagnostic


def read_path(arguments: Sequence[str]) -> Path | None:
    """The path of a call in the usual form, `[PATH]`, "." where there is none; None for all else, also for mistakes."""
    if len(arguments) > 1 or any(word.startswith("-") or not word for word in arguments):
        return None
    return Path(*arguments)


def validate(
    path: Path | None, as_json: bool = False, files: Sequence[Path] = (), assignments: Sequence[str] = ()
) -> int:
    """Check a file and print what was found; the exit code. Raises EngineError; without `as_json` SandboxfileError."""
    from engine.cli.showing.findings import show
    from engine.lifecycle.validate import check_file

    checked = check_file(path, files, assignments)
    if as_json:
        import json

        rows = [to_json(problem) for problem in checked.found]
        print(json.dumps({"file": str(checked.file), "valid": checked.valid, "diagnostics": rows}, indent=2))
    elif not checked.valid:
        from sandboxfile import SandboxfileError

        raise SandboxfileError(checked.found)
    else:
        show(checked.found, checked.file)
        print(f"{checked.file}: valid")
    return 0 if checked.valid else 2


def to_json(problem: Diagnostic) -> dict[str, Any]:
    """Line and column count from 1; both are null when a problem has no place."""
    position = problem.position
    return {
        "file": problem.file,
        "severity": problem.severity,
        "line": position.line if position else None,
        "column": position.column if position else None,
        "path": list(problem.path),
        "message": problem.message,
        "hint": problem.hint,
    }
