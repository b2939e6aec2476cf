"""`sandbox journal`."""

from __future__ import annotations

import json

import click


@click.command("journal")
@click.option("-f", "--follow", is_flag=True, help="Wait for more, until ^C.")
@click.option("--json", "as_json", is_flag=True, help="The lines as they are: one JSON object each.")
@click.argument("name", required=False)
def command(name: str | None, follow: bool, as_json: bool) -> None:
    """Show what the network gateway decided: one line per connection or request."""
    from engine.cli.follow import print_file
    from engine.cli.selection import choose, open_layout

    layout = open_layout()
    path = layout.instance(choose(layout, name).name).journal
    print_file(path, follow=follow, render=(lambda line: line) if as_json else render)


def render(line: str) -> str:
    """One journal line for people."""
    try:
        entry = json.loads(line)
        where = f"{entry['protocol']}://{entry['host']}:{entry['port']}{entry.get('path') or ''}"
        what = f"{entry.get('method') or ''} {where}".strip()
        moved = f"  {entry['bytes_in']} bytes in, {entry['bytes_out']} out" if entry["verdict"] == "allowed" else ""
        return f"{entry['time']}  {entry['verdict']:<8} {what}  {entry.get('reason') or ''}{moved}"
    except (ValueError, KeyError, TypeError):
        return line
