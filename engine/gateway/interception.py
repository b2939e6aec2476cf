"""A TLS connection of the guest that a rule has to look into: we answer for the host, and speak to it ourselves.

First the server, then the guest: so the guest is offered what the server chose, and never anything else. A server that
cannot be reached, or not verified, is said in an answer to the guest's request, which the server does not get.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from engine.gateway.clienthello import ClientHello
from engine.gateway.context import Context, Refused
from engine.gateway.errors import GatewayError
from engine.gateway.http import HttpSession, Inside
from engine.gateway.journal import JournalLine
from engine.gateway.outer import secure
from engine.gateway.policy import Decision
from engine.gateway.splice import close
from engine.gateway.tlsio import TlsStream, start_tls
from engine.gateway.upstream import Streams, UpstreamUnreachable

HTTP_1, HTTP_2 = "http/1.1", "h2"
_SPOKEN = (HTTP_2, HTTP_1)


async def intercept(
    context: Context,
    guest: Streams,
    entry: JournalLine,
    hello: ClientHello,
    received: bytes,
    decision: Decision | None,
    failure: GatewayError | None = None,
) -> None:
    """Serve a connection of which `received` was read, beginning with `hello`. Leaves the guest's side to the caller.

    `decision` None: the host is refused, and the guest is told so; with a `failure` it is told that. The entry is that
    of the first request; until there is one it says what became of the connection.
    """
    assert context.authority is not None
    host = entry.host or ""
    # Where bodies have to be seen as a whole, as a signature covers them, HTTP/1.1 alone is spoken: all clients do.
    spoken = (HTTP_1,) if context.policy.needs_bodies(host, entry.port) else _SPOKEN
    offers = [protocol for protocol in spoken if protocol in hello.alpn]
    upstream: TlsStream | None = None
    if decision is None or failure is not None:
        entry.verdict, entry.how = "refused", "refuse"
    else:
        entry.how = "intercept"
        try:
            upstream = await _dial(context, entry, decision, offers)
        except (Refused, UpstreamUnreachable) as error:
            failure = error
    try:
        chosen = (
            upstream.alpn if upstream is not None else next((each for each in (HTTP_1, HTTP_2) if each in offers), None)
        )
        inside = await _answer(context, guest, entry, chosen, received)
        if inside is None:
            return
        found, upstream = upstream, None  # the session's now
        if inside.alpn == HTTP_2:
            await _serve_h2(context, inside, entry, found, failure)
            return
        again = tuple(protocol for protocol in offers if protocol == HTTP_1)  # a session goes on as it began
        session = HttpSession(
            context,
            inside.streams,
            entry.port,
            inside=Inside(
                host=host,
                entry=entry,
                upstream=found.streams if found else None,
                failure=failure,
                dial=lambda line, allowed: _redial(context, line, allowed, again),
            ),
        )
        await session.serve(asyncio.get_running_loop().time() + context.limits.head_s)
        if not session.whole:
            inside.cut()
        await close(inside.streams, context.limits)
    finally:
        if upstream is not None:
            await close(upstream.streams, context.limits)


async def _serve_h2(
    context: Context,
    guest: TlsStream,
    entry: JournalLine,
    upstream: TlsStream | None,
    failure: GatewayError | None,
) -> None:
    from engine.gateway.h2relay import Relay  # only a guest that speaks it needs it

    relay = Relay(
        context, guest, entry, upstream, failure, lambda line, allowed: _dial(context, line, allowed, (HTTP_2,))
    )
    try:
        await relay.serve()
    finally:
        await close(guest.streams, context.limits)


async def _answer(
    context: Context, guest: Streams, entry: JournalLine, protocol: str | None, received: bytes
) -> TlsStream | None:
    """Answer the guest's hello as its host; None, with the reason in the entry, when the guest does not go on."""
    assert context.authority is not None
    answering = context.authority.context(entry.host or "", protocol)
    try:
        return await start_tls(guest, answering, context.limits.head_s, received=received)
    except TimeoutError:
        reason = f"the guest did not finish TLS within {context.limits.head_s:g} s"
    except ssl.SSLError as error:
        reason = f"the guest does not go on with TLS ({error.reason or error})"
    except OSError:
        reason = "the guest hung up within TLS"
    if entry.verdict == "allowed":
        entry.verdict, entry.reason = "failed", reason
    else:
        entry.reason += f"; {reason}"
    return None


async def _redial(context: Context, entry: JournalLine, decision: Decision, offers: Sequence[str]) -> Streams:
    return (await _dial(context, entry, decision, offers)).streams


async def _dial(context: Context, entry: JournalLine, decision: Decision, offers: Sequence[str]) -> TlsStream:
    """A verified connection to the entry's host. Raises Refused and UpstreamUnreachable, noted in the entry."""
    trusted = await context.trust()
    below = await context.dial(entry, decision)
    try:
        return await secure(below, trusted, decision.reached(entry.host or ""), offers, context.limits)
    except BaseException as error:
        await close(below, context.limits)
        if isinstance(error, UpstreamUnreachable):
            context.note_failure(entry, error)
        raise
