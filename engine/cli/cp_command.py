"""`sandbox cp`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click


@click.command("cp")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
def command(source: str, destination: str) -> None:
    """Copy a file or directory: one side is NAME:/absolute/path (or :/absolute/path in the project)."""
    from engine.cli.selection import choose_running, open_layout

    inbound, outbound = _guest_side(destination), _guest_side(source)
    if (inbound is None) == (outbound is None):
        raise click.UsageError("one side must be NAME:/absolute/path and the other a path of this host")
    name, path = inbound or outbound or ("", "")
    _, control = choose_running(open_layout(), name or None)
    if inbound:
        if not Path(source).exists() and not Path(source).is_symlink():
            raise click.UsageError(f"{source} does not exist")
        asyncio.run(_copy(control, Path(source), path, inbound=True))
    else:
        asyncio.run(_copy(control, Path(destination), path, inbound=False))


def _guest_side(text: str) -> tuple[str, str] | None:
    name, colon, path = text.partition(":")
    return (name, path) if colon and path.startswith("/") and "/" not in name else None


async def _copy(control: Path, host: Path, guest: str, *, inbound: bool) -> None:
    from vmm.channel.copy import copy_in, copy_out

    from vmm.channel.client import connect

    async with await connect(control) as client:
        await (copy_in(client, host, guest) if inbound else copy_out(client, guest, host))
