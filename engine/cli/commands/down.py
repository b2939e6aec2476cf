"""`sandbox down`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from engine.cli.options import complete_names

if TYPE_CHECKING:
    from engine.lifecycle.clones import Unapplied
    from engine.state.instances import Listed
    from engine.state.layout import Layout

SILENT_S = 2.0  # a guest answers within a second where it gets its processors


@click.command(
    "down",
    epilog="""\b
Examples:
  sandbox down               the sandbox of this project; all of them, where the file has `agents`
  sandbox down shop shop-2
  sandbox down --all --yes   in scripts, also where a private copy has changes
""",
)
@click.option("--all", "every", is_flag=True, help="Every sandbox of this user.")
@click.option(
    "--volumes", is_flag=True, help="Also remove what is kept of agents (`keep: true`): sessions and shell history."
)
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_names)
def command(every: bool, volumes: bool, yes: bool, names: tuple[str, ...]) -> int:
    """Stop sandboxes and remove everything they left: machine, disk, sockets, logs. `sandbox stop` keeps the disk.

    Without a name: the sandboxes that `up` has started for this project. Files in mounted directories stay. The cache
    stays, too, so the next `up` is fast.
    """
    from engine.cli.boundary import show
    from engine.cli.running import run
    from engine.errors import EngineError
    from engine.lifecycle.down import bring_down
    from engine.lifecycle.selection import open_layout
    from engine.report.text import clean_line

    if every and names:
        raise click.UsageError("--all and a name exclude each other")
    layout = open_layout()
    chosen = _chosen(layout, every, names)
    if every and chosen and not yes:
        _confirm(chosen)
    if not yes:
        _confirm_lost(layout, chosen)
    if volumes and not chosen and not every:
        _forget_kept(layout)
    code = 0
    for listed in chosen:
        try:
            lost = run(bring_down(layout, listed.name, volumes=volumes))
            click.echo(f"{listed.name} is down")
            if lost is not None:
                click.echo(
                    f"warning: what was to be kept of its agent is as it was before: {clean_line(lost)}", err=True
                )
        except EngineError as error:  # a sandbox that cannot be stopped must not keep the others up
            code = max(code, show(error))
    return code


def _forget_kept(layout: Layout) -> None:
    from engine.lifecycle.down import forget_kept
    from engine.lifecycle.project_file import locate

    for name in forget_kept(layout, locate(None).parent):
        click.echo(f"removed what was kept of {name}")


def _chosen(layout: Layout, every: bool, names: tuple[str, ...]) -> list[Listed]:
    from engine.lifecycle.selection import choose, find
    from engine.state.instances import list_instances

    if every:
        chosen = list_instances(layout)
    elif names:
        return [choose(layout, name) for name in dict.fromkeys(names)]
    else:
        chosen = _of_agents(layout)
        if not chosen and (found := find(layout, None)):
            chosen = [found]
    if not chosen:
        click.echo("nothing to take down" if every else "no sandbox of this project runs", err=True)
    return chosen


def _of_agents(layout: Layout) -> list[Listed]:
    """All sandboxes of the project, if its file has `agents`: one `up` started them all. Else none."""
    from engine.lifecycle.selection import of_project

    sandboxes = of_project(layout)
    if not any(listed.instance and listed.instance.agent_name for listed in sandboxes):
        return []
    click.echo(f"taking down {', '.join(listed.name for listed in sandboxes)}", err=True)
    return sandboxes


def _confirm_lost(layout: Layout, chosen: list[Listed]) -> None:
    """Ask before changes of private copies are thrown away."""
    from engine.cli.running import run

    for listed in chosen:
        if (
            listed.liveness not in ("running", "paused", "stopped")
            or listed.instance is None
            or not listed.instance.clones
        ):
            continue
        found = run(_count_unapplied(layout, listed.name)) if listed.liveness == "running" else None
        if found is not None and not any(found):
            continue
        lost = _lost(listed.name, found)
        if not sys.stdin.isatty():
            ways = "`sandbox diff` shows changes, `sandbox apply` and `sandbox pull` take them over, --yes goes on"
            raise click.UsageError(f"{lost}: {ways}")
        click.confirm(f"{lost}. Throw that away?", abort=True, err=True)


async def _count_unapplied(layout: Layout, name: str) -> Unapplied | None:
    """Says what takes so long where it does: a guest on a busy host needs minutes to look at its files."""
    import asyncio

    from engine.lifecycle.clones import count_unapplied

    looking = asyncio.create_task(count_unapplied(layout, name))
    try:
        await asyncio.wait({looking}, timeout=SILENT_S)
        if not looking.done():
            click.echo(f"asking {name} what is only in its private copy; --yes does not ask", err=True)
        return await looking
    finally:
        looking.cancel()


def _lost(name: str, found: Unapplied | None) -> str:
    if found is None:
        return f"nobody can say what was changed in the private copy of {name}"
    files = "1 file was changed" if found.files == 1 else f"{found.files} files were changed"
    commits = "1 commit is" if found.commits == 1 else f"{found.commits} commits are"
    words = [f"{files} in the private copy of {name}, and not applied"] if found.files else []
    words += [f"{commits} only in the private copy of {name}"] if found.commits else []
    return "; ".join(words)


def _confirm(chosen: list[Listed]) -> None:
    names = ", ".join(listed.name for listed in chosen)
    if not sys.stdin.isatty():
        raise click.UsageError(f"nobody is here to approve taking down {names}: --yes does")
    click.confirm(f"Take down {names}?", abort=True, err=True)
