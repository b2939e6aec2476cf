"""`sandbox stats`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import complete_names, json_option

if TYPE_CHECKING:
    from engine.lifecycle.stats import Measured

_HEAD = ("NAME", "CPU", "MEMORY", "DISK", "NETWORK IN", "OUT")


@click.command(
    "stats",
    epilog="""\b
Examples:
  sandbox stats                          every sandbox that runs
  sandbox stats -f shop                  again and again, until ^C
  sandbox stats --json | jq '.[] | select(.memory_used > 2e9).name'
""",
)
@click.option("-f", "--follow", is_flag=True, help="Measure again and again, until ^C.")
@json_option("Machine-readable: an array of objects, in a line of its own each time; sizes in bytes.")
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_names)
def command(names: tuple[str, ...], follow: bool, as_json: bool) -> None:
    """Show what sandboxes use: processors, memory, disk and network.

    Of the processors it is the last second: 100% is one of them. Network is what came in and went out since the machine
    started. The numbers are those of the guest itself; what a sandbox costs this host is at most what `machine` says.
    `weight` is its `machine.cpu_weight`, where that is not 100.
    """
    from engine.lifecycle.selection import open_layout

    asyncio.run(_show(open_layout(), names, follow, as_json))


async def _show(layout: Any, names: tuple[str, ...], follow: bool, as_json: bool) -> None:
    from engine.lifecycle.stats import measure

    lines = 0
    async for rows in measure(layout, names):
        if as_json:
            import json

            click.echo(json.dumps([to_json(row) for row in rows]))
        elif not rows:
            click.echo("no sandbox runs; `sandbox up` starts the one of this project", err=True)
        else:
            text = table(rows)
            if lines and sys.stdout.isatty():  # over what was there
                text = f"\x1b[{lines}F\x1b[J{text}"
            click.echo(text)
            lines = len(rows) + 1
        sys.stdout.flush()
        if not follow:
            return


def to_json(row: Measured) -> dict[str, Any]:
    """A sandbox as a JSON value; without numbers where its guest gave no answer, and `problem` says why."""
    usage = row.usage._asdict() if row.usage else {}
    return {"name": row.name, **usage, "cpu_weight": row.cpu_weight, "problem": row.problem}


def table(rows: list[Measured]) -> str:
    from engine.report.columns import align
    from engine.report.sizes import size
    from engine.report.text import clean_line
    from vmm.processor_share import DEFAULT

    cells = []
    for row in rows:
        if (used := row.usage) is None:
            cells.append((row.name, clean_line(f"- ({row.problem})"), "-", "-", "-", "-"))
            continue
        weight = f", weight {row.cpu_weight}" if row.cpu_weight != DEFAULT else ""
        cells.append(
            (
                row.name,
                f"{used.cpu:.1f}% of {100 * used.processors}%{weight}",
                f"{size(used.memory_used)} of {size(used.memory)}",
                f"{size(used.disk_used)} of {size(used.disk)}",
                size(used.received),
                size(used.sent),
            )
        )
    return align([_HEAD, *cells])
