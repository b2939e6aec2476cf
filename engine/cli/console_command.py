"""`sandbox console`."""

from __future__ import annotations

import click

from engine.cli.options import follow_option, name_argument


@click.command("console")
@follow_option
@name_argument
def command(name: str | None, follow: bool) -> None:
    """Show the guest's serial console: kernel and boot messages, without colours and other escapes."""
    from engine.cli.follow import print_file
    from engine.cli.selection import choose, open_layout
    from engine.report import clean_line

    layout = open_layout()
    print_file(layout.instance(choose(layout, name).name).console_log, clean_line, follow=follow)
