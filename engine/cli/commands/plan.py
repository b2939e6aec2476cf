"""`sandbox plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import file_options, json_option, path_argument

if TYPE_CHECKING:
    from engine.lifecycle.outlook import Outlook


@click.command(
    "plan",
    epilog="""\b
Examples:
  sandbox plan
  sandbox plan --set machine.memory=8GiB
  sandbox plan --json | jq '.running.changes'
  sandbox plan --name shop-2
""",
)
@json_option("Machine-readable: `steps`, and `running` with `changes`.")
@click.option("-n", "--name", metavar="NAME", help="The sandbox's name; default: the file's.")
@click.option("--agent", metavar="AGENT", help="Only the sandbox of this one of the file's `agents`.")
@file_options
@path_argument
def command(
    path: Path | None,
    name: str | None,
    agent: str | None,
    as_json: bool,
    files: tuple[Path, ...],
    assignments: tuple[str, ...],
) -> None:
    """Show what `up` would build, and why, and what it would change about a running sandbox. Changes nothing.

    PATH is a directory or a file; default: the nearest Sandboxfile.yaml upwards. A change is applied `live`, while the
    sandbox runs, or by a `new machine`: then everything that is only on the guest's own disk is lost. A file with
    `agents` has a plan for each agent.
    """
    from engine.cli.showing.findings import show
    from engine.lifecycle.members import choose_members
    from engine.lifecycle.project_file import load_file
    from engine.lifecycle.selection import open_layout
    from engine.resolve.preflight import check_host

    loaded, layout = load_file(path, files, assignments), open_layout()
    members = choose_members(loaded, layout, name, agent).each
    for member in members:
        check_host(member.loaded, ports=False)
    show(loaded.warnings, loaded.path)
    from engine.lifecycle.outlook import (
        look_ahead,
    )  # here, since the import takes a while and a bad file ends before it

    outlooks = [look_ahead(member, layout) for member in members]
    if as_json:
        click.echo(_json(outlooks))
    elif len(outlooks) == 1:
        click.echo(outlooks[0].render(), nl=False)
    else:
        click.echo("\n".join(f"{outlook.name}:\n{outlook.render()}" for outlook in outlooks), nl=False)


def _json(outlooks: list[Outlook]) -> str:
    import json

    document: dict[str, Any] = outlooks[0].to_json()
    if len(outlooks) > 1:
        document = {"version": 1, "sandboxes": [{"name": one.name, **one.to_json()} for one in outlooks]}
        for row in document["sandboxes"]:
            del row["version"]
    return json.dumps(document, indent=2)
