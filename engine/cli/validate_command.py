"""`sandbox validate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import json_option, path_argument

if TYPE_CHECKING:
    from sandboxfile import Diagnostic


@click.command(
    "validate",
    epilog="""\b
Examples:
  sandbox validate
  sandbox validate examples/quickstart
  sandbox validate --json | jq '.diagnostics[].message'
""",
)
@json_option("Machine-readable: `file`, `valid` and `diagnostics`, each with line, column, path, message and hint.")
@path_argument
def command(path: Path | None, as_json: bool) -> int:
    """Check a Sandboxfile.yaml: every problem at once, each with its place. Starts nothing.

    What depends on this host (its memory, its ports, directories outside the file's own) is `up`'s to check.
    """
    from engine.cli.project_file import load_file, locate
    from engine.preflight import check_supported
    from sandboxfile import SandboxfileError

    file = locate(path)
    try:
        check_supported(load_file(path))
        problems: tuple[Diagnostic, ...] = ()
    except SandboxfileError as error:
        if not as_json:
            raise
        problems = error.diagnostics
    if as_json:
        import json

        rows = [to_json(problem) for problem in problems]
        click.echo(json.dumps({"file": str(file), "valid": not rows, "diagnostics": rows}, indent=2))
    else:
        click.echo(f"{file}: valid")
    return 2 if problems else 0


def to_json(problem: Diagnostic) -> dict[str, Any]:
    """Line and column count from 1; both are null when a problem has no place."""
    position = problem.position
    return {
        "line": position.line if position else None,
        "column": position.column if position else None,
        "path": list(problem.path),
        "message": problem.message,
        "hint": problem.hint,
    }
