"""`sandbox ls`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: an array of objects.")
def command(as_json: bool) -> None:
    """List sandboxes: name, status, project, ports and services."""
    from engine.cli.selection import open_layout
    from engine.instances import list_instances

    found = list_instances(open_layout())
    if as_json:
        rows = [
            {"name": item.name, "status": item.liveness, "message": item.status, **_record(item.instance)}
            for item in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not found:
        click.echo("no sandboxes; `sandbox up` starts the one of this project")
        return
    table = [("NAME", "STATUS", "PROJECT", "PORTS", "SERVICES")]
    for item in found:
        record = item.instance
        ports = " ".join(f"{port['host']}->{port['guest']}" for port in record.ports) if record else ""
        services = " ".join(sorted(record.services)) if record else ""
        table.append((item.name, item.status, record.project if record else "?", ports or "-", services or "-"))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _record(instance: object) -> dict[str, object]:
    if instance is None:
        return {}
    record = asdict(instance)  # type: ignore[call-overload]
    keep = ("project", "file", "created", "pid", "ports", "mounts", "services")
    return {name: record[name] for name in keep}
