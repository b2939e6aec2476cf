"""`sandbox journal`."""

from __future__ import annotations

import functools
import json
from typing import Any

import click

from engine.cli.options import follow_option, json_option, name_argument


@click.command(
    "journal",
    epilog="""\b
Examples:
  sandbox journal --refused     what to add to endpoints, or to be glad about
  sandbox journal -f
  sandbox journal --json | jq -r .host | sort | uniq -c
""",
)
@follow_option
@click.option("--refused", is_flag=True, help="Only what was refused or failed.")
@json_option("The lines as they are: one JSON object each.")
@name_argument
def command(name: str | None, follow: bool, refused: bool, as_json: bool) -> None:
    """Show what the network gateway decided: one line for each connection or request.

    If the last start of the sandbox failed, this shows the journal of that start.
    """
    from engine.cli.showing.follow import print_file
    from engine.cli.showing.words import find_words
    from engine.lifecycle.journal import journal_files

    *older, path = journal_files(find_words(name).journal)
    shown = functools.partial(render, refused=refused, as_json=as_json)
    for file in older:
        print_file(file, shown)
    print_file(path, shown, follow=follow)


def render(line: str, *, refused: bool = False, as_json: bool = False) -> str | None:
    """One line of the journal as text for people, or unchanged for `as_json`; None for a line to leave out.

    The guest chose most of the words in it, so they are cleaned.
    """
    from engine.report.text import clean_line

    try:
        entry = json.loads(line)
        if refused and entry["verdict"] in ("allowed", "changed"):
            return None
        if entry["verdict"] == "changed":
            return line if as_json else clean_line(f"{entry['time']}  changed   {_words_of_change(entry)}")
        where = f"{entry['protocol'] or 'unknown'}://{entry['host'] or '?'}:{entry['port']}{entry.get('path') or ''}"
        moved = f"{entry['bytes_in']} bytes in, {entry['bytes_out']} out" if entry["verdict"] == "allowed" else ""
        words = (entry["time"], f"{entry['verdict']:<8}", entry.get("method"), where, entry.get("reason"), moved)
    except (ValueError, KeyError, TypeError):
        return clean_line(line)
    return line if as_json else clean_line("  ".join(str(word) for word in words if word))


def _words_of_change(entry: dict[str, Any]) -> str:
    return f"{entry['host']}:{entry['port']}  {entry['reason']}"
