"""`sandbox start`."""

from __future__ import annotations

import click

from engine.cli.options import json_option, name_argument


@click.command(
    "start",
    epilog="""\b
Examples:
  sandbox start               this project's sandbox
  sandbox start shop --yes --json
""",
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: approve what the file asks of this host, for this start.")
@json_option("Machine-readable: `name`, `status`, `seconds`.")
@name_argument
def command(name: str | None, yes: bool, as_json: bool) -> None:
    """Start a stopped sandbox again: boot its disk, and wait for its services.

    It has the policy, ports and mounts that it was stopped with. Its file is checked against this host and what you
    have approved, as by `up`. Secrets are read anew: they are not on the disk. What fails leaves it stopped. `sandbox
    up` starts it, too, and then changes it to what the file says now.
    """
    import json
    import time

    from engine.cli.asking.terminal import Terminal
    from engine.cli.running import run
    from engine.lifecycle.selection import choose, open_layout
    from engine.lifecycle.stop import check_start, start_stopped

    layout = open_layout()
    chosen = choose(layout, name).name
    began = time.monotonic()
    check_start(layout, chosen, Terminal("auto"), yes=yes)
    run(start_stopped(layout, chosen, lambda line: click.echo(f"  {line}", err=True)))
    seconds = time.monotonic() - began
    if as_json:
        row = {"name": chosen, "status": "running", "seconds": round(seconds, 3)}
        click.echo(json.dumps({"version": 1, **row}, indent=2))
    else:
        click.echo(f"{chosen} runs ({seconds:.1f} s)")
