"""`sandbox pull`."""

from __future__ import annotations

import click

from engine.cli.options import name_option


@click.command(
    "pull",
    epilog="""\b
Examples:
  sandbox pull                      as the branch sandbox/NAME
  sandbox pull --branch try-cache
  git log -p main..try-cache        look at it, as at anybody's branch
""",
)
@click.option("--branch", metavar="BRANCH", help="The branch that is made. Default: sandbox/NAME of the sandbox.")
@click.option("--force", is_flag=True, help="Also where there is such a branch: it becomes what the copy has.")
@name_option
def command(branch: str | None, force: bool, name: str | None) -> None:
    """Take the commits of a private copy (`mode: clone`) over, as a branch of this repository.

    Your files and the branch that you have checked out stay as they are. git checks each object, and runs no hook. What
    was changed and not committed is no part of it: `sandbox apply` takes that over.
    """
    from engine.cli.running import run
    from engine.lifecycle.clones import pull
    from engine.lifecycle.selection import open_layout

    for pulled in run(pull(open_layout(), name, branch, force=force)):
        commits = "1 commit" if pulled.commits == 1 else f"{pulled.commits} commits"
        click.echo(f"{commits} on {pulled.branch}" if pulled.commits else "nothing was committed in the copy")
        if pulled.left:
            files = "1 file is" if pulled.left == 1 else f"{pulled.left} files are"
            click.echo(f"{files} changed there and not committed: `sandbox diff` shows all", err=True)
