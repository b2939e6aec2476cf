"""`sandbox validate`."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.json_errors import note_file, note_validity
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
    "Machine-readable: `file`, `valid` and `diagnostics`, each with file, line, column, path, message and hint.",
    note_validity,
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
    from engine.cli.validation import validate

    if path is not None:
        note_file(str(path))
    return validate(path, as_json, files, assignments)
