"""`sandbox snapshot`."""

from __future__ import annotations

import json

import click

from engine.cli.options import json_option, name_option


@click.command(
    "snapshot",
    epilog="""\b
Examples:
  sandbox snapshot migrated             this project's sandbox as it is now
  sandbox up --from migrated -n try     a sandbox that begins there
  sandbox snapshot --list
  sandbox snapshot --rm migrated
""",
)
@click.argument("label", required=False)
@name_option
@click.option("--list", "listing", is_flag=True, help="List the snapshots that there are.")
@click.option("--rm", "removing", is_flag=True, help="Remove the snapshot LABEL.")
@json_option(
    "Machine-readable: one object, or with --list an array: `label`, `of`, `taken`, `size` in bytes; of a new one also "
    "`stood_still_seconds`, `notes`."
)
def command(label: str | None, name: str | None, listing: bool, removing: bool, as_json: bool) -> None:
    """Keep a running sandbox as it is now under the name LABEL: memory, disk, services and agent.

    The sandbox stands still for a moment and runs on. `sandbox up --from LABEL` starts one that begins there, as often
    as you like. A snapshot stays until `--rm`, also when its sandbox is gone; nothing prunes it. It holds what was in
    the memory of the sandbox. A sandbox with a live mount has none.
    """
    from engine.cli.running import run
    from engine.lifecycle.selection import choose, open_layout
    from engine.lifecycle.snapshots import list_snapshots, remove_snapshot, take_snapshot
    from engine.report.sizes import size

    layout = open_layout()
    if listing == (label is not None) or (listing and (removing or name)) or (removing and name):
        raise click.UsageError("It takes a LABEL to take a snapshot or to remove it (--rm), or --list alone.")
    if listing:
        found = list_snapshots(layout)
        if as_json:
            click.echo(json.dumps([kept.to_json() for kept in found], indent=2))
        elif found:
            from engine.report.columns import align

            rows = [
                (kept.label, kept.record.name if kept.record else "?", f"{kept.taken:%Y-%m-%d %H:%M}Z", size(kept.size),
                 kept.record.project if kept.record else "?")
                for kept in found
            ]  # fmt: skip
            click.echo(align([("LABEL", "OF", "TAKEN", "SIZE", "PROJECT"), *rows]))
        else:
            click.echo("no snapshots; `sandbox snapshot LABEL` takes one", err=True)
        return
    assert label is not None
    if removing:
        kept = remove_snapshot(layout, label)
        click.echo(json.dumps({"version": 1, **kept.to_json()}, indent=2) if as_json else f"{label} is removed")
        return
    source = choose(layout, name).name
    kept, written = run(take_snapshot(layout, source, label))
    notes, still = list(written.notes(source)), written.stood_still_s
    if as_json:
        row = {"version": 1, **kept.to_json(), "stood_still_seconds": round(still, 3), "notes": notes}
        click.echo(json.dumps(row, indent=2))
        return
    click.echo(f"{label}: {source} as it is now ({size(kept.size)}; it stood still for {still:.2f} s)")
    for note in notes:
        click.echo(f"note: {note}", err=True)
