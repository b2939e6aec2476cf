"""`sandbox pause`."""

from __future__ import annotations

import click

from engine.cli.options import json_option, name_argument


@click.command(
    "pause",
    epilog="""\b
Examples:
  sandbox pause               this project's sandbox
  sandbox pause shop --json
  sandbox pause --release-ports   so that another program can have its ports
""",
)
@click.option("--release-ports", is_flag=True, help="Listen on its published ports no more: nothing of it runs then.")
@json_option("Machine-readable: `name`, `status`, `seconds`, `bytes` on the disk.")
@name_argument
def command(name: str | None, release_ports: bool, as_json: bool) -> None:
    """Write a sandbox to the disk, memory and all, and end its processes.

    It holds nothing of this host then but room on the disk, and a small process that listens on its published ports.
    `sandbox resume`, `up`, `exec`, `shell`, `attach` and a connection to one of these ports let it go on where it was:
    services, the agent and its open files. Commands that run through `exec` end. If the disk is full, it runs on.
    """
    import json
    import time

    from engine.cli.running import run
    from engine.lifecycle.pause import pause
    from engine.lifecycle.selection import choose, open_layout
    from engine.report.text import clean_line
    from engine.state.trees import disk_usage

    layout = open_layout()
    chosen = choose(layout, name).name
    began = time.monotonic()
    lost = run(pause(layout, chosen, release_ports=release_ports))
    seconds, size = time.monotonic() - began, disk_usage(layout.instance(chosen).paused.directory)
    if as_json:
        row = {"name": chosen, "status": "paused", "seconds": round(seconds, 3), "bytes": size}
        click.echo(json.dumps({"version": 1, **row}, indent=2))
    else:
        click.echo(f"{chosen} is paused ({size / 1e6:.0f} MB, {seconds:.1f} s); `sandbox resume {chosen}` wakes it")
    if lost is not None:
        click.echo(f"warning: what was to be kept of its agent is as it was before: {clean_line(lost)}", err=True)
