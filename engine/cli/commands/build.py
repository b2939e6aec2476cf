"""`sandbox build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.options import build_in_option, file_options, json_option, path_argument, progress_option

if TYPE_CHECKING:
    from engine.build.image.build import Place
    from engine.report.reporter import Mode


@click.command(
    "build",
    epilog="""\b
Examples:
  sandbox build                     this project's; the next `up` is a warm one
  sandbox build -y --json ../shop   in scripts
""",
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: approve what the file asks of this host, for this run.")
@click.option("--agent", metavar="AGENT", help="Only the sandbox of this one of the file's `agents`.")
@click.option("--shell-on-failure", is_flag=True, help="Open a shell in the guest where a setup step failed.")
@build_in_option
@progress_option
@json_option("Machine-readable: what was built and what was there.")
@file_options
@path_argument
def command(
    path: Path | None,
    yes: bool,
    agent: str | None,
    shell_on_failure: bool,
    build_in: Place,
    progress: Mode,
    as_json: bool,
    files: tuple[Path, ...],
    assignments: tuple[str, ...],
) -> None:
    """Build everything that `up` needs, up to the snapshot that it restores, and start no sandbox.

    PATH is a directory or a file; default: the nearest Sandboxfile.yaml upwards. It needs the same approval as `up`,
    since the steps of the build read the project and reach the file's endpoints. Secrets are not read, and running
    sandboxes stay as they are.
    """
    from engine.cli.asking.terminal import Terminal
    from engine.cli.running import run
    from engine.lifecycle.agent_word import load_for
    from engine.lifecycle.building import agreed_blueprints, build_members
    from engine.lifecycle.members import choose_members
    from engine.lifecycle.selection import open_layout

    loaded, agent = load_for(path, agent, files, assignments)
    layout = open_layout()
    members = choose_members(loaded, layout, None, agent)
    audience = Terminal(progress, shell_on_failure=shell_on_failure)
    planned = agreed_blueprints(members, layout, audience, place=build_in, yes=yes)
    found = run(build_members(planned, audience))
    if as_json:
        import json

        rows = [ready.to_json() for ready in found]
        click.echo(json.dumps(rows[0] if len(rows) == 1 else {"version": 1, "sandboxes": rows}, indent=2))
        return
    for ready in found:
        what = (
            f"built {ready.built}, {len(ready.nodes) - ready.built} were there" if ready.built else "nothing to build"
        )
        click.echo(f"{ready.name} is ready: {what} ({ready.seconds:.1f} s)")
