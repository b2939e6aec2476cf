"""`sandbox down`."""

from __future__ import annotations

import asyncio
import sys

import click


@click.command("down")
@click.option("--all", "every", is_flag=True, help="Every sandbox of this user.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def command(every: bool, yes: bool, names: tuple[str, ...]) -> None:
    """Stop sandboxes and remove everything they left: machine, disk, sockets, logs. Mounted files stay."""
    from engine.cli.selection import choose, open_layout
    from engine.down import take_down
    from engine.instances import list_instances

    layout = open_layout()
    if every:
        chosen = list_instances(layout)
        if not chosen:
            click.echo("no sandboxes")
            return
        if not yes and sys.stdin.isatty():
            click.confirm(f"Take down {', '.join(item.name for item in chosen)}?", abort=True, err=True)
    else:
        chosen = [choose(layout, name) for name in names] if names else [choose(layout, None)]
    for item in chosen:
        asyncio.run(take_down(layout, item))
        click.echo(f"{item.name} is down")
