"""`sandbox validate`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("validate")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def command(path: Path | None) -> None:
    """Check a Sandboxfile.yaml: every problem at once, each with its place. Starts nothing."""
    from engine.cli.selection import load_file

    loaded = load_file(path)
    click.echo(f"{loaded.path}: valid")
