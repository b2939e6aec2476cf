"""`cp`: files between this host and a sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.state.layout import Layout
    from vmm.channel.archive import Copied


class Way(NamedTuple):
    """The two paths of a copy. `inbound` copies into the guest. `name` None means the sandbox of this project."""

    name: str | None
    inbound: bool
    host: str
    guest: str


def read_way(source: str, destination: str) -> Way:
    """Read the two arguments of `cp`, one of which is NAME:/absolute/path or :/absolute/path.

    Raises EngineError (exit code 2) for everything else, and for a source on this host that does not exist.
    """
    inbound, outbound = _guest_side(destination), _guest_side(source)
    if inbound is not None and outbound is None:
        if not Path(source).exists() and not Path(source).is_symlink():
            raise EngineError(f"{source} does not exist on this host", exit_code=2)
        return Way(inbound[0] or None, True, source, inbound[1])
    if outbound is not None and inbound is None:
        return Way(outbound[0] or None, False, destination, outbound[1])
    raise EngineError("one side must be NAME:/absolute/path, and the other a path of this host", exit_code=2)


async def copy(layout: Layout, way: Way) -> Copied:
    """Copy a file or directory, however long that takes. Raises EngineError and GuestError.

    In directories of the host that a guest may write, links are not followed.
    """
    from engine.lifecycle.selection import choose_running
    from engine.state.writable import writable_roots
    from vmm.beneath import LinkInTheWay
    from vmm.channel.client import connect
    from vmm.channel.copy import copy_in, copy_out

    _, control = choose_running(layout, way.name)
    roots = writable_roots(layout)
    try:
        async with await connect(control) as client:
            if way.inbound:
                return await copy_in(client, way.host, way.guest, roots=roots)
            return await copy_out(client, way.guest, way.host, roots=roots)
    except LinkInTheWay as error:
        raise EngineError(
            f"{error.component} is a link to {error.target}, where the guest of {error.below} may write",
            details="it may have been made to lead this copy to another place of this host: nothing is copied",
            hint="name the place itself that the link leads to, if that is what you mean, or remove the link",
            exit_code=2,
        ) from None


def _guest_side(text: str) -> tuple[str, str] | None:
    """(name or "", path) of NAME:/path; None for a path of the host, such as ./a:/b."""
    name, colon, path = text.partition(":")
    return (name, path) if colon and path.startswith("/") and "/" not in name else None
