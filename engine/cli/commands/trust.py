"""`sandbox trust`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import file_options, json_option, path_argument

if TYPE_CHECKING:
    from engine.state.layout import Layout
    from engine.trust.approvals import Record
    from engine.trust.asks import Ask


@click.group(
    "trust",
    invoke_without_command=True,
    epilog="""\b
Examples:
  sandbox trust show              what this project's file asks of this host
  sandbox trust ls                the files that you approved
  sandbox trust revoke            ask me again about this project's file
  sandbox trust revoke --all
""",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List and revoke what you allowed files to have of this host.

    `up` asks you once about each file, and again when a file asks for more: directories that the guest sees, secrets
    and the hosts they go to, services and ports of this host, wildcard endpoints, variables of your environment, most
    of this host's memory, processors or disk, credentials in the URLs of your package registries, and
    Sandboxfile.local.yaml and .env where a guest can write them.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("ls")
@json_option("Machine-readable: an array of objects.")
def list_command(as_json: bool) -> None:
    """List the files that you approved: id, file, when, how much each may ask for."""
    from engine.lifecycle.selection import open_layout
    from engine.report.columns import align
    from engine.trust.approvals import list_approvals
    from sandboxfile.diagnostics import printable

    found = list_approvals(open_layout())
    if as_json:
        _echo_json([_record_to_json(record) for record in found])
    elif found:
        rows = [tuple(map(printable, _row(record))) for record in found]
        click.echo(align([("ID", "FILE", "APPROVED", "ASKS"), *rows]))
    else:
        click.echo("nothing is approved; `sandbox up` asks", err=True)


@command.command("show")
@json_option("Machine-readable: the file, its asks, and whether each is approved.")
@file_options
@path_argument
def show_command(path: Path | None, as_json: bool, files: tuple[Path, ...], assignments: tuple[str, ...]) -> None:
    """Show everything that a file asks of this host now, and whether you approved it. Starts nothing.

    PATH is a directory or a file; default: the nearest Sandboxfile.yaml upwards.
    """
    from engine.cli.showing.asks import render
    from engine.lifecycle.project_file import load_file
    from engine.lifecycle.selection import open_layout
    from engine.trust.approvals import find_approval, identity
    from engine.trust.asks import asks_of, widened
    from engine.trust.surroundings import around
    from sandboxfile.diagnostics import printable

    loaded, layout = load_file(path, files, assignments), open_layout()
    asks, record = asks_of(loaded, around(layout, loaded)), find_approval(layout, identity(loaded))
    approval = record.approval if record else None
    new = frozenset(widened(asks, approval.asks if approval else ()))
    if as_json:
        rows = [{**_ask_to_json(ask), "approved": ask not in new} for ask in asks]
        when = approval.approved if approval else None
        _echo_json({"file": str(identity(loaded)), "approved": not new, "approved_at": when, "asks": rows})
        return
    if record and record.note:
        click.echo(f"note: {printable(record.note)}: it counts as not approved", err=True)
    shown = printable(str(identity(loaded)))
    if not asks:
        click.echo(f"{shown} asks this host for nothing that needs approval")
        return
    click.echo(f"{shown} asks this host for:")
    click.echo(render(asks, new))
    if not new:
        click.echo(f"approved {approval.approved if approval else ''}".rstrip())
    elif approval is None:
        click.echo("not approved: `sandbox up` asks")
    else:
        click.echo(f"approved {approval.approved}, except for what is marked with +: `sandbox up` asks")


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from engine.errors import EngineError
    from engine.lifecycle.selection import open_layout
    from engine.trust.approvals import list_approvals

    try:
        found = list_approvals(open_layout())
    except (EngineError, OSError):
        return []  # an error cannot be shown while the user types a line
    names = [name for record in found for name in (record.id, str(record.approval.file) if record.approval else "")]
    return [name for name in names if name and name.startswith(incomplete)]


@command.command("revoke")
@click.option("--all", "every", is_flag=True, help="All files.")
@click.argument("targets", nargs=-1, metavar="[PATH|ID]...", shell_complete=_complete)
def revoke_command(every: bool, targets: tuple[str, ...]) -> None:
    """Forget an approval: the next `up` of that file asks again. A running sandbox goes on.

    PATH is a Sandboxfile or its directory, which need not exist any more; ID is from `sandbox trust ls`. Default: the
    file of this project.
    """
    from engine.lifecycle.selection import open_layout
    from engine.trust.approvals import forget_approval, list_approvals
    from sandboxfile.diagnostics import printable

    if every and targets:
        raise click.UsageError("--all and a file exclude each other")
    layout = open_layout()
    chosen = list_approvals(layout) if every else _chosen(layout, targets)
    for record in chosen:
        forget_approval(layout, record)
        click.echo(f"revoked {printable(str(record.approval.file) if record.approval else record.id)}")
    if not chosen:
        click.echo("nothing is approved", err=True)


def _chosen(layout: Layout, targets: tuple[str, ...]) -> list[Record]:
    """The records of all `targets`. Raises EngineError when one of them has none, so that nothing is revoked then."""
    from engine.errors import EngineError
    from engine.lifecycle.project_file import locate
    from engine.trust.approvals import list_approvals

    records = list_approvals(layout)
    chosen = {}
    for target in targets or (str(locate(None)),):
        matching = [record for record in records if _is_meant(record, target)]
        if not matching:
            hint = "`sandbox trust ls` lists what is approved"
            raise EngineError(f"nothing is approved for {target}", hint=hint)
        chosen.update({record.id: record for record in matching})
    return list(chosen.values())


def _is_meant(record: Record, target: str) -> bool:
    if record.id == target or not target:
        return record.id == target
    path = Path(target).absolute()
    names = (path.parent.resolve() / path.name, path.resolve())
    return record.approval is not None and any(
        name in (record.approval.file, record.approval.file.parent) for name in names
    )


def _row(record: Record) -> tuple[str, str, str, str]:
    approval = record.approval
    if approval is None:
        return record.id, f"({record.note})", "-", "-"
    gone = "" if approval.file.exists() else " (gone)"
    return record.id, f"{approval.file}{gone}", approval.approved, str(len(approval.asks))


def _record_to_json(record: Record) -> dict[str, Any]:
    """A record as a JSON value. Where it cannot be used, `note` says why, and its content is missing."""
    approval = record.approval
    if approval is None:
        return {"id": record.id, "note": record.note}
    return {
        "id": record.id,
        "file": str(approval.file),
        "exists": approval.file.exists(),
        "approved_at": approval.approved,
        "digest": approval.digest,
        "asks": [_ask_to_json(ask) for ask in approval.asks],
    }


def _ask_to_json(ask: Ask) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(ask)


def _echo_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2))
