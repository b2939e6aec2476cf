"""`sandbox cp`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.errors import EngineError

if TYPE_CHECKING:
    from vmm.channel.archive import Copied
    from vmm.channel.guest import GuestChannel


@click.command(
    "cp",
    epilog="""\b
Examples:
  sandbox cp data.csv :/tmp/             into this project's sandbox
  sandbox cp shop:/var/log/app ./logs    out of the sandbox called shop
  sandbox cp fixtures/. :/srv            what is in a directory, without the directory
""",
)
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
def command(source: str, destination: str) -> None:
    """Copy a file or directory into or out of a sandbox.

    One side is NAME:/absolute/path, or :/absolute/path inside the project; the other is a path of this host. Where that
    lies in a live mount that a sandbox may write, no link on the way is followed.
    """
    from engine.cli.running import run
    from engine.lifecycle.selection import choose_running, open_layout
    from engine.state.writable import writable_roots
    from vmm.beneath import LinkInTheWay

    inbound, outbound = _guest_side(destination), _guest_side(source)
    if inbound is not None and outbound is None:
        name = inbound[0]
        if not Path(source).exists() and not Path(source).is_symlink():
            raise click.UsageError(f"{source} does not exist on this host")
    elif outbound is not None and inbound is None:
        name = outbound[0]
    else:
        raise click.UsageError("one side must be NAME:/absolute/path, and the other a path of this host")
    layout = open_layout()
    _, control = choose_running(layout, name or None)
    roots = writable_roots(layout)

    async def copy(client: GuestChannel) -> Copied:
        from vmm.channel.copy import copy_in, copy_out

        if inbound is not None:
            return await copy_in(client, source, inbound[1], roots=roots)
        assert outbound is not None
        return await copy_out(client, outbound[1], destination, roots=roots)

    async def connected() -> Copied:
        from vmm.channel.client import connect

        async with await connect(control) as client:
            return await copy(client)

    try:
        copied = run(connected())
    except LinkInTheWay as error:
        raise EngineError(
            f"{error.component} is a link to {error.target}, where the guest of {error.below} may write",
            details="it may have been made to lead this copy to another place of this host: nothing is copied",
            hint="name the place itself that the link leads to, if that is what you mean, or remove the link",
            exit_code=2,
        ) from None
    for line in copied.skipped:
        click.echo(f"left out: {line!r}"[:500] if not line.isprintable() else f"left out: {line}", err=True)


def _guest_side(text: str) -> tuple[str, str] | None:
    """(name or "", path) of NAME:/path; None for a path of the host, such as ./a:/b."""
    name, colon, path = text.partition(":")
    return (name, path) if colon and path.startswith("/") and "/" not in name else None
