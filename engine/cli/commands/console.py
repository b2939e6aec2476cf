"""`sandbox console`."""

from __future__ import annotations

import click

from engine.cli.options import follow_option, name_argument


@click.command("console")
@follow_option
@name_argument
def command(name: str | None, follow: bool) -> None:
    """Show the guest's serial console: kernel and boot messages, without colours and other escapes.

    If the last start of the sandbox failed, this shows the console of that start.
    """
    from engine.cli.showing.follow import print_file
    from engine.cli.showing.words import find_words
    from engine.report.text import clean_line

    print_file(find_words(name).console_log, clean_line, follow=follow)
