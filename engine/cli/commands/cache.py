"""`sandbox cache`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import json_option

if TYPE_CHECKING:
    from engine.build.blueprint import Blueprint
    from engine.cache.pruning import Removed
    from engine.cache.store import Store
    from engine.lifecycle.cached import Cached
    from engine.state.layout import Layout

MOST_NAMED = 3  # of what keeps an entry, in its line


@click.group(
    "cache",
    invoke_without_command=True,
    epilog="""\b
Examples:
  sandbox cache ls                        what is there, and what keeps it
  sandbox cache prune --dry-run           what nothing uses any more
  sandbox cache prune --older-than 7d
  sandbox cache prune --size 20GiB        the least recently used, until it fits
  sandbox cache rm 3f2a9c
  sandbox cache export shop.bundle        what this project's `up` needs, for another machine
  sandbox cache import shop.bundle
""",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show and shrink the cache: tools, guest images and snapshots of machines, by content.

    Nothing that a sandbox or a running build needs is ever removed, and everything else can be built again. After a
    build the cache is kept below a third of what it takes and is free on its disk, or below the size in the variable
    SANDBOX_CACHE_SIZE or `cache_size` in your config.yaml (docs/cache.md).
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _store() -> Store:
    from engine.cache.store import Store
    from engine.lifecycle.selection import open_layout

    return Store(open_layout())


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from engine.errors import EngineError
    from engine.lifecycle.cached import ID_LENGTH

    try:
        keys = [entry.key[:ID_LENGTH] for entry in _store().entries()]
    except (EngineError, OSError):
        return []  # no place to say so while a line is being typed
    return [key for key in keys if key.startswith(incomplete)]


def _size(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    from sandboxfile.quantities import parse_size

    try:
        return parse_size(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}.") from None


def _age(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    from sandboxfile.quantities import parse_duration

    try:
        return parse_duration(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}.") from None


_ids = click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=_complete)


@command.command("ls")
@json_option("Machine-readable: an array of objects, and everything that keeps each of them.")
def list_command(as_json: bool) -> None:
    """List the entries: what each is for, what it takes on the disk, its last use, and what keeps it.

    An entry is kept by sandboxes (whether they run or not) and running builds, by the last build of a project, and by
    entries that are built upon it.
    """
    from engine.lifecycle.cached import list_cached
    from engine.report.columns import align
    from engine.report.sizes import size

    found = list_cached(_store())
    if as_json:
        _echo_json([one.to_json() for one in found])
    elif found:
        click.echo(align([("ID", "KIND", "SIZE", "AGE", "LAST USE", "FOR", "KEPT BY"), *map(_row, found)]))
        click.echo(f"{len(found)} entries, {size(sum(one.size for one in found))}")
    else:
        click.echo("the cache is empty; `sandbox build` fills it", err=True)


def _row(one: Cached) -> tuple[str, ...]:
    from engine.lifecycle.cached import age
    from engine.report.sizes import size
    from engine.report.text import clean_line, cut

    entry = one.entry
    what = clean_line(cut(one.purpose, 48))
    return one.id, one.kind, size(one.size), age(entry.created), age(entry.last_used), what, clean_line(_kept(one))


def _kept(one: Cached) -> str:
    """What keeps it, the strongest first, in a few words."""
    words = [f"{keeper.name} ({keeper.more})" for keeper in one.kept_by("sandbox")]
    words += [f"process {keeper.name}" for keeper in one.kept_by("process")]
    words += [Path(keeper.name).name for keeper in one.kept_by("project")]
    if not words and (above := one.kept_by("entry")):
        words = [f"{len(above)} built upon it"]
    if one.damage or one.useless:
        words.insert(0, f"damaged: {one.damage}" if one.damage else "useless: what it was built upon is gone")
    words = list(dict.fromkeys(words))
    more = [f"{len(words) - MOST_NAMED} more"] if len(words) > MOST_NAMED else []
    return ", ".join([*words[:MOST_NAMED], *more]) or "-"


@command.command("prune")
@click.option(
    "--older-than",
    "seconds",
    metavar="TIME",
    callback=_age,
    help="Only what was last used longer ago than this, such as 7d.",
)
@click.option(
    "--all", "every", is_flag=True, help="Also what the last build of a project has: its next `up` builds it again."
)
@click.option(
    "--size",
    "limit",
    metavar="SIZE",
    callback=_size,
    help="Remove the least recently used, whatever it is, until the cache takes no more than this, such as 20GiB.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@json_option("Machine-readable: what was removed, and how much is left.")
def prune_command(seconds: int | None, every: bool, limit: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove what nothing uses: what no project's last build has, and what is damaged or useless.

    Never what a sandbox or a running build needs, nor what a kept entry is built upon. Builds may run at the same time.
    """
    from datetime import UTC, datetime, timedelta

    from engine.cache.pruning import Wanted
    from engine.lifecycle.cached import prune_cache

    before = datetime.now(UTC) - timedelta(seconds=seconds) if seconds is not None else None
    unused = limit is None or seconds is not None
    removed = prune_cache(_store(), Wanted(unused, every, before, limit), dry_run=dry_run)
    _show(removed, as_json, dry_run=dry_run)


@command.command("rm")
@json_option("Machine-readable: what was removed, and how much is left.")
@_ids
def remove_command(ids: tuple[str, ...], as_json: bool) -> None:
    """Remove entries by their ids from `cache ls`: all of them, or none if one of them is needed.

    What is built upon an entry has to be named, too.
    """
    from engine.lifecycle.cached import remove_cached

    _show(remove_cached(_store(), ids), as_json)


@command.command("verify")
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=_complete)
@json_option("Machine-readable: an array of objects.")
def verify_command(ids: tuple[str, ...], as_json: bool) -> int:
    """Read every byte of the entries, or of all, and compare it with what was built. Ends with 1 if one is damaged.

    `up` compares sizes and times only, which finds what is cut or was written to. What is damaged is built again.
    """
    from engine.lifecycle.cached import ID_LENGTH, purpose, verify_cached
    from engine.report.text import clean_line

    rows = []
    for verdict in verify_cached(_store(), ids):
        entry = verdict.entry
        rows.append(
            {
                "id": entry.key[:ID_LENGTH],
                "key": entry.key,
                "node": entry.kind,
                "damage": verdict.damage,
                "digests": verdict.digests,
            }
        )
        if not as_json:
            word = (
                "damaged: " + verdict.damage
                if verdict.damage
                else "whole"
                if verdict.digests
                else "no digests: an older version built it"
            )
            click.echo(clean_line(f"{entry.key[:ID_LENGTH]}  {purpose(entry)}: {word}"))
    if as_json:
        _echo_json(rows)
    return int(any(row["damage"] for row in rows))


def _show(removed: Removed, as_json: bool, *, dry_run: bool = False) -> None:
    from engine.lifecycle.cached import CLASSES, ID_LENGTH, purpose
    from engine.report.sizes import size
    from engine.report.text import clean_line

    if as_json:
        rows = [
            {"id": one.key[:ID_LENGTH], "key": one.key, "node": one.kind, "purpose": purpose(one), "size": one.size}
            for one in removed.entries
        ]
        _echo_json({"removed": rows, "dry_run": dry_run, "bytes": removed.bytes, "left": removed.left})
        return
    for one in removed.entries:
        kind = CLASSES.get(one.kind, "snapshot")
        click.echo(clean_line(f"{one.key[:ID_LENGTH]}  {kind}  {purpose(one)}  {size(one.size)}"))
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{len(removed.entries)} entries {verb}, {size(removed.bytes)}; {size(removed.left)} left", err=True)


def _echo_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2))


@command.command("export")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@json_option("Machine-readable: `file`, `bytes`, and the entries.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("what", metavar="[NAME|PATH]", required=False)
def export_command(file: Path, what: str | None, force: bool, as_json: bool) -> None:
    """Write what a project's `up` needs into FILE: image, layers and snapshots, for `cache import` elsewhere.

    NAME is a sandbox, PATH a project; default: the project around this directory. All of it must be built. Tools and
    the probe of accelerators stay out: the other machine has its own, of the same versions. FILE holds everything that
    the steps of the build have read of the project.
    """
    from engine.cli.running import run
    from engine.lifecycle.carrying import export_chain
    from engine.lifecycle.selection import open_layout
    from engine.report.sizes import size

    if file.exists() and not force:
        raise click.UsageError(f"{file} exists: --force overwrites it")
    done = run(export_chain(_store(), _blueprints(open_layout(), what), file.absolute(), _tell))
    if as_json:
        _echo_json({"version": 1, "file": str(file), "bytes": done.bytes, "entries": dict(done.entries)})
    else:
        click.echo(f"{file}: {len(done.entries)} entries, {size(done.bytes)}")


@command.command("import")
@json_option("Machine-readable: `file`, `bytes`, and the entries.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_command(file: Path, as_json: bool) -> None:
    """Put what `cache export` wrote on another machine into the cache: then `up` there builds nothing.

    Every byte is checked against the file's own digests, and a file that was made with another QEMU or for another
    processor is refused. Importing is trust in who made FILE: machines start from it, with whatever that person put
    into them, and no digest can say who that was.
    """
    from engine.cli.asking.terminal import Terminal
    from engine.cli.running import run
    from engine.lifecycle.carrying import Carried, import_chain
    from engine.lifecycle.doctor import make_ready
    from engine.report.sizes import size

    store = _store()
    click.echo("importing is trust in who made the file: machines will start from what is in it", err=True)

    async def work() -> Carried:
        await make_ready(store, Terminal("auto").reporter)
        return await import_chain(store, file, _tell)

    done = run(work())
    imported = sum(how == "imported" for how in done.entries.values())
    if as_json:
        _echo_json({"version": 1, "file": str(file), "bytes": done.bytes, "entries": dict(done.entries)})
    else:
        click.echo(f"{file}: {imported} of {len(done.entries)} entries imported, {size(done.bytes)}")


def _tell(text: str) -> None:
    click.echo(f"  {text}", err=True)


def _blueprints(layout: Layout, what: str | None) -> list[Blueprint]:
    """Those of a sandbox's file, or of the file at a path."""
    from engine.build.blueprint import Blueprint
    from engine.lifecycle.members import choose_members
    from engine.lifecycle.project_file import load_file
    from engine.lifecycle.selection import check_name
    from engine.state.instances import load_instance

    path, agent = Path(what) if what is not None else None, None
    named = what is not None and path is not None and not path.exists() and path.parts == (what,)
    if named and (record := load_instance(layout, check_name(layout, str(what)))) is not None:
        path, agent = Path(record.file), record.agent_name
    members = choose_members(load_file(path), layout, None, agent)
    return [Blueprint.of(member.loaded, layout) for member in members.each]
