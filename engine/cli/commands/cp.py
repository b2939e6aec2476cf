"""`sandbox cp`."""

from __future__ import annotations

import click


@click.command(
    "cp",
    epilog="""\b
Examples:
  sandbox cp data.csv :/tmp/             into this project's sandbox
  sandbox cp shop:/var/log/app ./logs    out of the sandbox called shop
  sandbox cp fixtures/. :/srv            what is in a directory, without the directory
""",
)
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
def command(source: str, destination: str) -> None:
    """Copy a file or directory into or out of a sandbox.

    One side is NAME:/absolute/path, or :/absolute/path inside the project; the other is a path of this host. Where the
    path of this host lies in a live mount that a sandbox may write, no link on the way is followed.
    """
    from engine.cli.running import run
    from engine.lifecycle.copy import copy, read_way
    from engine.lifecycle.selection import open_layout

    copied = run(copy(open_layout(), read_way(source, destination)))
    for line in copied.skipped:
        click.echo(f"left out: {line!r}"[:500] if not line.isprintable() else f"left out: {line}", err=True)
