"""`sandbox sync`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import json_option, name_option

if TYPE_CHECKING:
    from engine.clones.syncing import Ways
    from engine.errors import EngineError
    from engine.lifecycle.syncing import Synced


@click.command(
    "sync",
    epilog="""\b
Examples:
  sandbox sync --dry-run     what would go where
  sandbox sync               both sides have the same content afterwards
  sandbox sync src README.md
  sandbox sync --watch       go on, until ^C
  sandbox sync --from-host   only bring the copy up to date with your edits
""",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go where.")
@click.option("--from-host", is_flag=True, help="Only what was changed on this host goes into the copy.")
@click.option("--to-host", is_flag=True, help="Only what was changed in the copy comes to this host.")
@click.option("--watch", "watching", is_flag=True, help="Once more after each change on either side, until ^C.")
@name_option
@json_option("What has become of each file, as one JSON object.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
def command(
    dry_run: bool,
    from_host: bool,
    to_host: bool,
    watching: bool,
    name: str | None,
    as_json: bool,
    paths: tuple[str, ...],
) -> int:
    """Make a private copy (`mode: clone`) and the directory that it was made of the same again.

    What was changed in the copy comes here as `sandbox apply` takes it over, and what was changed here goes into the
    copy by the rules of what is copied. Files that both have changed are merged as git merges, on both sides. Where
    both have changed the same lines, nothing changes on either side. Later changes count from the new common state.
    """
    from engine.cli.running import run
    from engine.errors import EngineError
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.syncing import sync

    if from_host and to_host:
        raise EngineError("--from-host and --to-host exclude each other", hint="without both, all goes", exit_code=2)
    if watching and (dry_run or as_json):
        raise EngineError("--watch goes with neither --dry-run nor --json", exit_code=2)
    ways: Ways = "from host" if from_host else "to host" if to_host else "both"
    if watching:
        run(_watch(name, paths, ways))
        return 0
    sandbox, found = run(sync(open_layout(), name, paths, ways=ways, dry_run=dry_run))
    if as_json:
        clones = [_to_json(one) for one in found]
        click.echo(json.dumps({"version": 1, "sandbox": sandbox, "synced": not dry_run, "clones": clones}, indent=2))
    else:
        _tell(found, dry_run)
    return int(any(one.conflicts for one in found))


async def _watch(name: str | None, paths: Sequence[str], ways: Ways) -> None:
    from engine.cli.boundary import show
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.sync_watch import watch

    def warn(error: EngineError) -> None:
        show(error)

    await watch(open_layout(), name, paths, ways, lambda sandbox, found: _tell(found, False), warn)


def _tell(found: Sequence[Synced], dry_run: bool) -> None:
    from engine.report.columns import align
    from sandboxfile.diagnostics import printable

    for one in found:
        rows = [
            ("merged" if row.action == "merge" else row.action, row.word, printable(row.path), printable(row.why))
            for row in one.crossings
            if row.action != "same"
        ]
        if len(found) > 1 and rows:
            click.secho(f"{one.point.source} ({one.point.target}):", bold=True)
        if rows:
            click.echo(align(rows, indent="  "))
        for path in one.skipped:
            click.echo(f"left out: {printable(path)}: no file of a project", err=True)
    rows_of = [row.action for one in found for row in one.crossings]
    here = sum(action in ("to host", "merge") for action in rows_of)
    there = sum(action in ("to copy", "merge") for action in rows_of)
    if not here and not there:
        click.echo("nothing to sync")  # what is held back or refused is listed above
    else:
        would = "would be written" if dry_run else "written"
        click.echo(f"{_files(here)} {would} on this host, {_files(there)} in the copy")
    if "held back" in rows_of:
        click.echo("what is held back comes over when it is named: `sandbox sync PATH`", err=True)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _to_json(synced: Synced) -> dict[str, Any]:
    files = [
        {"path": one.path, "change": one.word, "action": one.action, "why": one.why or None} for one in synced.crossings
    ]
    point = synced.point
    return {"source": point.source, "target": point.target, "files": files, "skipped": list(synced.skipped)}
