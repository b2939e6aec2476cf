"""`sandbox plan`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("plan")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def command(path: Path | None, as_json: bool) -> None:
    """Show what `up` would do, and why. Changes nothing."""
    from engine.cli.selection import load_file, open_layout
    from engine.preflight import check_host
    from engine.up import Project

    loaded = load_file(path)
    check_host(loaded, ports=False)
    plan = Project.of(loaded, open_layout()).plan()
    click.echo(json.dumps(plan.to_json(), indent=2) if as_json else plan.render(), nl=as_json)
