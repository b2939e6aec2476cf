"""What `sandbox validate` does, without importing click: editors and commit hooks call it all day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandboxfile import Diagnostic


def read_path(arguments: Sequence[str]) -> Path | None:
    """The path, if the arguments have the form `[PATH]`; "." without one. None for every other call: click reads it."""
    if len(arguments) > 1 or any(word.startswith("-") or not word for word in arguments):
        return None
    return Path(*arguments)


def validate(
    path: Path | None, as_json: bool = False, files: Sequence[Path] = (), assignments: Sequence[str] = ()
) -> int:
    """Check a file, print the problems and return the exit code.

    Raises EngineError where there is no file. For a bad file, without `as_json`, raises SandboxfileError.
    """
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
    """A problem as a JSON value. Line and column count from 1, and are null for a problem without a place."""
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


def error_to_json(message: str, details: object, hint: str | None) -> dict[str, Any]:
    """The same for an error that is about no place in a file, but may have `details`."""
    row: dict[str, Any] = {"file": None, "severity": "error", "line": None, "column": None, "path": []}
    return row | {"message": message, "hint": hint, "details": None if details is None else str(details)}
