"""`sandbox validate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from engine.cli.json_errors import note_answered
from engine.cli.options import file_options, json_option, path_argument


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
    """Check a Sandboxfile.yaml: report all problems together, each with its place. Starts nothing.

    Whether sections fit together is checked for those that are right by themselves, and whether there is such an agent
    when all else is right.

    `up` checks what depends on this host: its memory, its ports, directories outside the file's own. A file with
    warnings only, such as for what this version cannot run yet, is valid.
    """
    from engine.cli.validation import error_to_json, validate
    from engine.errors import EngineError

    try:
        return validate(path, as_json, files, assignments)
    except EngineError as error:
        if as_json:
            row = error_to_json(error.brief, error.details, error.hint)
            file = None if path is None else str(path)
            click.echo(json.dumps({"file": file, "valid": False, "diagnostics": [row]}, indent=2))
            note_answered()
        raise
