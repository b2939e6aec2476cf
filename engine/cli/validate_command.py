"""`sandbox validate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import file_options, json_option, path_argument

if TYPE_CHECKING:
    from sandboxfile import Diagnostic, Loaded


@click.command(
    "validate",
    epilog="""\b
Examples:
  sandbox validate
  sandbox validate examples/quickstart
  sandbox validate -f ci.yaml --set machine.memory=8GiB
  sandbox validate --json | jq '.diagnostics[].message'
""",
)
@json_option(
    "Machine-readable: `file`, `valid` and `diagnostics`, each with file, line, column, path, message and hint."
)
@file_options
@path_argument
def command(path: Path | None, as_json: bool, files: tuple[Path, ...], assignments: tuple[str, ...]) -> int:
    """Check a Sandboxfile.yaml: every problem at once, each with its place. Starts nothing.

    What depends on this host (its memory, its ports, directories outside the file's own) is `up`'s to check. Warnings,
    such as what this version cannot run yet, leave a file valid.
    """
    from engine.agent_use import unknown_agents
    from engine.cli.findings import show
    from engine.cli.project_file import load_file, locate, name_file
    from sandboxfile import SandboxfileError

    file = locate(path)
    try:
        loaded = load_file(path, files, assignments)
        if wrong := name_file(unknown_agents(loaded), file):
            raise SandboxfileError(wrong)
        found = [*loaded.warnings, *_not_yet(loaded)]
        valid = True
    except SandboxfileError as error:
        if not as_json:
            raise
        found, valid = list(error.diagnostics), False
    if as_json:
        import json

        rows = [to_json(problem) for problem in found]
        click.echo(json.dumps({"file": str(file), "valid": valid, "diagnostics": rows}, indent=2))
    else:
        show(found, file)
        click.echo(f"{file}: valid")
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
