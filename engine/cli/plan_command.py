"""`sandbox plan`."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.options import json_option, path_argument


@click.command("plan")
@json_option("Machine-readable: an object with `steps`.")
@path_argument
def command(path: Path | None, as_json: bool) -> None:
    """Show what `up` would build, and why. Changes nothing.

    PATH is a directory or a file; default: the nearest Sandboxfile.yaml upwards.
    """
    from engine.cli.project_file import load_file
    from engine.cli.selection import open_layout
    from engine.preflight import check_host

    loaded = load_file(path)
    check_host(loaded, ports=False)
    from engine.up import Project  # takes a while: not for a file that is refused

    plan = Project.of(loaded, open_layout()).plan()
    if as_json:
        import json

        click.echo(json.dumps(plan.to_json(), indent=2))
    else:
        click.echo(plan.render(), nl=False)
