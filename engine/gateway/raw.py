"""One connection of the guest with a protocol that names no host: the address that it came to has, so bytes pass."""

from __future__ import annotations

from engine.gateway.context import Context, Refused
from engine.gateway.doors import Door
from engine.gateway.journal import JournalLine
from engine.gateway.splice import close, splice
from engine.gateway.upstream import Streams, UpstreamUnreachable


async def serve_raw(context: Context, guest: Streams, door: Door) -> None:
    """Serve a connection that came to the door. Leaves the guest's side for the caller to close.

    The server is connected to before the guest has said anything, since with many protocols the server speaks first. A
    refusal can only be an end: nobody knows in which protocol to say why.
    """
    entry = JournalLine(port=door.port, protocol="tcp", host=door.host)
    with context.recording(entry):
        try:
            decision = context.judge(entry)
            entry.how = "splice"
            upstream = await context.dial(entry, decision)
        except Refused as error:
            entry.verdict, entry.reason, entry.how = "refused", error.brief, "refuse"
            return
        except UpstreamUnreachable:
            return
        try:
            await splice(guest, upstream, entry, context.limits)
        finally:
            await close(upstream, context.limits)
