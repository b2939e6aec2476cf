"""What `sandbox validate` does, without the command line's library: editors and commit hooks call it all day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandboxfile import Diagnostic, Loaded


def read_path(arguments: Sequence[str]) -> Path | None:
    """The path of a call in the usual form, `[PATH]`, "." where there is none; None for all else, also for mistakes."""
    if len(arguments) > 1 or any(word.startswith("-") or not word for word in arguments):
        return None
    return Path(*arguments)


def validate(
    path: Path | None, as_json: bool = False, files: Sequence[Path] = (), assignments: Sequence[str] = ()
) -> int:
    """Check a file and print what was found; the exit code. Raises EngineError; without `as_json` SandboxfileError."""
    from engine.agents.use import unknown_agents
    from engine.cli.showing.findings import show
    from engine.lifecycle.project_file import load_file, locate, name_file
    from sandboxfile import SandboxfileError

    file = locate(path)
    try:
        loaded = load_file(path, files, assignments)
        if wrong := name_file(unknown_agents(loaded), file):
            raise SandboxfileError(wrong)
        found = [*loaded.warnings, *_not_yet(loaded), *name_file(_copied(loaded), file)]
        valid = True
    except SandboxfileError as error:
        if not as_json:
            raise
        found, valid = list(error.diagnostics), False
    if as_json:
        import json

        rows = [to_json(problem) for problem in found]
        print(json.dumps({"file": str(file), "valid": valid, "diagnostics": rows}, indent=2))
    else:
        show(found, file)
        print(f"{file}: valid")
    return 0 if valid else 2


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
