"""One TLS connection of the guest: read the server name, decide, connect, splice; or intercept, where a rule asks.

What is spliced is not decrypted.
A server may ask for a second hello, in the clear as the first: that one must name the same server.
"""

from __future__ import annotations

import asyncio

from engine.gateway.clienthello import ClientHello, ClientHelloParser, MalformedHello
from engine.gateway.context import Context, Refused
from engine.gateway.journal import JournalLine
from engine.gateway.names import BadName, canonical_name
from engine.gateway.policy import Decision
from engine.gateway.second_hello import HelloWatch
from engine.gateway.splice import close, hang_up, splice
from engine.gateway.upstream import Streams, UpstreamUnreachable

FIRST_BYTE = 0x16
_ACCESS_DENIED = 49
_INTERNAL_ERROR = 80
_HIDDEN = "ClientHello may hide the name that is asked for (ECH)"
_IN_CLEAR = (
    "browsers send that, or a decoy that looks the same, unless told otherwise; `intercept: true` at the endpoint"
    " makes it harmless, `ech: allow` lets it through"
)


async def serve_tls(context: Context, guest: Streams, port: int, first: bytes, deadline: float) -> None:
    """Serve a connection whose first bytes are `first`; its hello must be complete at `deadline` (loop time).

    Leaves the guest's side for the caller to close.
    """
    entry = JournalLine(port=port, protocol="tls")
    with context.recording(entry):
        try:
            hello, received, length = await _read_hello(context, guest, entry, first, deadline)
            try:
                decision = context.judge(entry)
            except Refused as error:
                if context.authority is None or error.decision is None:
                    raise
                await _intercept(context, guest, entry, hello, received, None)  # to say why
                return
            if context.policy.looks_into(entry.host or "", port):
                await _intercept(context, guest, entry, hello, received, decision)
                return
            if hello.hides_name and not context.policy.may_hide(entry.host or "", port):
                hidden = Refused(f"the {_HIDDEN}", hint=_IN_CLEAR)
                if context.authority is None:
                    raise hidden
                await _intercept(context, guest, entry, hello, received, decision, hidden)
                return
            entry.how = "splice"
            upstream = await context.dial(entry, decision)
        except Refused as error:
            reason = f"{error.brief}; {error.hint}" if error.hint else error.brief
            await _refuse(context, guest, entry, reason)
            return
        except UpstreamUnreachable:
            context.settle(entry)
            await hang_up(guest, _alert(_INTERNAL_ERROR), context.limits)
            return
        try:
            await _splice(context, guest, upstream, entry, received[:length], received[length:])
        except (Refused, MalformedHello) as error:
            await _refuse(context, guest, entry, error.brief)
        finally:
            await close(upstream, context.limits)


async def _intercept(
    context: Context,
    guest: Streams,
    entry: JournalLine,
    hello: ClientHello,
    received: bytes,
    decision: Decision | None,
    failure: Refused | None = None,
) -> None:
    from engine.gateway.interception import intercept  # nothing of it is loaded where no rule looks inside

    await intercept(context, guest, entry, hello, received, decision, failure)


async def _splice(
    context: Context, guest: Streams, upstream: Streams, entry: JournalLine, hello: bytes, rest: bytes
) -> None:
    """Raises Refused and MalformedHello for what a further hello says."""
    may_hide = context.policy.may_hide(entry.host or "", entry.port)
    watch = HelloWatch(lambda further: _judge_further(further, entry, may_hide), context.limits.head_bytes)
    hello += watch.from_client(rest)
    upstream[1].write(hello)
    entry.bytes_out += len(hello)
    outgoing, incoming = watch.from_client, watch.from_server
    await splice(guest, upstream, entry, context.limits, outgoing=outgoing, incoming=incoming)


async def _refuse(context: Context, guest: Streams, entry: JournalLine, reason: str) -> None:
    entry.verdict, entry.reason, entry.how = "refused", reason, "refuse"
    context.settle(entry)
    await hang_up(guest, _alert(_ACCESS_DENIED), context.limits)


def _judge_further(hello: ClientHello, entry: JournalLine, may_hide: bool) -> None:
    """Raises Refused for another name than the one that was judged."""
    if hello.hides_name and not may_hide:
        raise Refused(f"a further {_HIDDEN}")
    try:
        same = hello.server_name is not None and canonical_name(hello.server_name) == entry.host
    except BadName:
        same = False
    if not same:
        raise Refused(f"a further ClientHello names {hello.server_name or 'no server'}, the first {entry.host}")


async def _read_hello(
    context: Context, guest: Streams, entry: JournalLine, first: bytes, deadline: float
) -> tuple[ClientHello, bytes, int]:
    """The hello, all that was received, and how much of it is the hello; fills in the entry's host. Raises Refused."""
    parser = ClientHelloParser(context.limits.head_bytes)
    received = bytearray(first)
    try:
        hello = parser.feed(first)
        async with asyncio.timeout_at(deadline):
            while hello is None:
                data = await guest[0].read(context.limits.chunk_bytes)
                if not data:
                    raise Refused("the guest hung up within its ClientHello")
                received += data
                hello = parser.feed(data)
    except MalformedHello as error:
        raise Refused(error.brief) from error
    except TimeoutError as error:
        raise Refused(f"no complete ClientHello within {context.limits.head_s:g} s") from error
    except OSError as error:
        raise Refused("the guest broke off within its ClientHello") from error
    if hello.server_name is None:
        raise Refused("the ClientHello names no server (no SNI)")
    entry.host = hello.server_name
    try:
        entry.host = canonical_name(hello.server_name)
    except BadName as error:
        raise Refused(error.brief) from error
    return hello, bytes(received), parser.consumed


def _alert(description: int) -> bytes:
    """A fatal alert, in the clear: nothing has been negotiated yet."""
    return bytes([21, 3, 3, 0, 2, 2, description])
