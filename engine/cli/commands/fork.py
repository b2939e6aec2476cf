"""`sandbox fork`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import json_option, name_argument

if TYPE_CHECKING:
    from engine.state.instances import Instance

MOST = 32


@click.command(
    "fork",
    epilog="""\b
Examples:
  sandbox fork                 shop runs on, and shop-2 begins where it is now
  sandbox fork shop -n 3       shop-2, shop-3 and shop-4, of one copy of its memory
  sandbox fork shop --json
""",
)
@click.option(
    "-n", "--count", type=click.IntRange(1, MOST), default=1, show_default=True, metavar="N", help="How many clones."
)
@json_option("Machine-readable: `source`, `clones` (name, ports, services), `stood_still_seconds`, `seconds`, `notes`.")
@name_argument
def command(name: str | None, count: int, as_json: bool) -> None:
    """Start clones of a running sandbox: its memory, its disk, its services and its agent, as they are now.

    The sandbox stands still for a moment and runs on. Each clone is a sandbox of its own: with a name, an identity,
    randomness, a disk and a gateway, which lets it reach what the source may. Its published ports are the next free
    ones. Private copies (`mode: clone`) come along; a sandbox with a live mount cannot be forked.
    """
    from engine.cli.running import run
    from engine.lifecycle.fork import fork
    from engine.lifecycle.selection import choose, open_layout

    layout = open_layout()
    source = choose(layout, name).name
    done = run(fork(layout, source, count, lambda line: click.echo(f"  {line}", err=True)))
    if as_json:
        import json

        row: dict[str, Any] = {"source": source, "clones": [to_json(clone) for clone in done.clones]}
        row |= {"stood_still_seconds": round(done.stood_still_s, 3), "seconds": round(done.seconds, 3)}
        click.echo(json.dumps({"version": 1, **row, "notes": list(done.notes)}, indent=2))
        return
    for clone in done.clones:
        ports = " ".join(f"{port['host']}->{port['guest']}" for port in clone.ports)
        click.echo(f"{clone.name}{f'  {ports}' if ports else ''}")
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"  {source} stood still for {done.stood_still_s:.2f} s; {done.seconds:.1f} s in all", err=True)


def to_json(clone: Instance) -> dict[str, Any]:
    """A clone as a JSON value."""
    return {"name": clone.name, "status": clone.state, "ports": clone.ports, "services": clone.services}
