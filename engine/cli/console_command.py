"""`sandbox console`."""

from __future__ import annotations

import click


@click.command("console")
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until ^C.")
@click.argument("name", required=False)
def command(name: str | None, follow: bool) -> None:
    """Show the guest's serial console (kernel and boot messages)."""
    from engine.cli.follow import print_file
    from engine.cli.selection import choose, open_layout

    layout = open_layout()
    print_file(layout.instance(choose(layout, name).name).console_log, follow=follow)
