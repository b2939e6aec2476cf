"""`sandbox resume`."""

from __future__ import annotations

import click

from engine.cli.options import json_option, name_argument


@click.command(
    "resume",
    epilog="""\b
Examples:
  sandbox resume               this project's sandbox
  sandbox resume shop --json
""",
)
@json_option("Machine-readable: `name`, `status`, `seconds`.")
@name_argument
def command(name: str | None, as_json: bool) -> None:
    """Let a paused sandbox go on where it was.

    Its clock is set, its random pool gets fresh randomness, its ports listen again, and what it may reach is what it
    was. Secrets are read anew: they are not on the disk. Where one is missing or a port is taken, it stays paused.
    """
    import json
    import time

    from engine.cli.running import run
    from engine.lifecycle.pause import resume
    from engine.lifecycle.selection import choose, open_layout

    layout = open_layout()
    chosen = choose(layout, name).name
    began = time.monotonic()
    run(resume(layout, chosen, lambda line: click.echo(f"  {line}", err=True)))
    seconds = time.monotonic() - began
    if as_json:
        click.echo(
            json.dumps({"version": 1, "name": chosen, "status": "running", "seconds": round(seconds, 3)}, indent=2)
        )
    else:
        click.echo(f"{chosen} runs ({seconds:.1f} s)")
