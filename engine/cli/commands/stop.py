"""`sandbox stop`."""

from __future__ import annotations

import click

from engine.cli.options import json_option, name_argument


@click.command(
    "stop",
    epilog="""\b
Examples:
  sandbox stop               this project's sandbox
  sandbox stop shop --json
""",
)
@json_option("Machine-readable: `name`, `status`, `seconds`, `bytes` on the disk, `forced`.")
@name_argument
def command(name: str | None, as_json: bool) -> None:
    """End a sandbox's machine in good order, and keep its disk.

    Services are stopped, then the guest; nothing of its memory is kept, so that commands and the agent end. What is on
    its disk stays: files, private copies, volumes, what was installed. `sandbox start` and `up` boot it again, and
    `sandbox down` removes it. A guest that does not end by itself is switched off after three minutes.
    """
    import json
    import time

    from engine.cli.running import run
    from engine.lifecycle.selection import choose, open_layout
    from engine.lifecycle.stop import stop
    from engine.report.text import clean_line
    from engine.state.trees import disk_usage

    layout = open_layout()
    chosen = choose(layout, name).name
    click.echo(f"stopping {chosen}", err=True)
    began = time.monotonic()
    done = run(stop(layout, chosen))
    seconds, size = time.monotonic() - began, disk_usage(layout.instance(chosen).directory)
    if as_json:
        row = {"name": chosen, "status": "stopped", "seconds": round(seconds, 3), "bytes": size, "forced": done.forced}
        click.echo(json.dumps({"version": 1, **row}, indent=2))
    else:
        click.echo(f"{chosen} is stopped ({size / 1e6:.0f} MB, {seconds:.1f} s); `sandbox start {chosen}` starts it")
    if done.forced is not None:
        click.echo(f"warning: {done.forced}", err=True)
    if done.lost is not None:
        lost = clean_line(done.lost)
        click.echo(f"warning: what was to be kept of its agent outside is as it was before: {lost}", err=True)
