"""One TLS connection of the guest: read the server name, decide, connect, splice. Nothing is decrypted.

A server may ask for a second hello, in the clear as the first: that one must name the same server.
"""

from __future__ import annotations

import asyncio

from engine.gateway.clienthello import ClientHello, ClientHelloParser, MalformedHello
from engine.gateway.context import Context, Refused
from engine.gateway.journal import JournalLine
from engine.gateway.names import BadName, canonical_name
from engine.gateway.second_hello import HelloWatch
from engine.gateway.splice import close, hang_up, splice
from engine.gateway.upstream import Streams, UpstreamUnreachable

FIRST_BYTE = 0x16
_ACCESS_DENIED = 49
_INTERNAL_ERROR = 80


async def serve_tls(context: Context, guest: Streams, port: int, first: bytes, deadline: float) -> None:
    """Serve a connection whose first bytes are `first`; its hello must be complete at `deadline` (loop time).

    Leaves the guest's side for the caller to close.
    """
    entry = JournalLine(port=port, protocol="tls")
    with context.recording(entry):
        try:
            hello, rest = await _read_hello(context, guest, entry, first, deadline)
            decision = context.judge(entry)
            upstream = await context.dial(entry, decision)
        except Refused as error:
            entry.verdict, entry.reason = "refused", error.brief
            context.settle(entry)
            await hang_up(guest, _alert(_ACCESS_DENIED), context.limits)
            return
        except UpstreamUnreachable:
            context.settle(entry)
            await hang_up(guest, _alert(_INTERNAL_ERROR), context.limits)
            return
        watch = HelloWatch(lambda further: _judge_further(further, entry), context.limits.head_bytes)
        try:
            hello += watch.from_client(rest)
            upstream[1].write(hello)
            entry.bytes_out += len(hello)
            outgoing, incoming = watch.from_client, watch.from_server
            await splice(guest, upstream, entry, context.limits, outgoing=outgoing, incoming=incoming)
        except (Refused, MalformedHello) as error:
            entry.verdict, entry.reason = "refused", error.brief
            context.settle(entry)
            await hang_up(guest, _alert(_ACCESS_DENIED), context.limits)
        finally:
            await close(upstream, context.limits)


def _judge_further(hello: ClientHello, entry: JournalLine) -> None:
    """Raises Refused for another name than the one that was judged."""
    try:
        same = hello.server_name is not None and canonical_name(hello.server_name) == entry.host
    except BadName:
        same = False
    if not same:
        raise Refused(f"a further ClientHello names {hello.server_name or 'no server'}, the first {entry.host}")


async def _read_hello(
    context: Context, guest: Streams, entry: JournalLine, first: bytes, deadline: float
) -> tuple[bytes, bytes]:
    """The bytes of the hello, and those that came behind it; fills in the entry's host. Raises Refused."""
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
    return bytes(received[: parser.consumed]), bytes(received[parser.consumed :])


def _alert(description: int) -> bytes:
    """A fatal alert, in the clear: nothing has been negotiated yet."""
    return bytes([21, 3, 3, 0, 2, 2, description])
