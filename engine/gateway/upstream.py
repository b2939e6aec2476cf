"""From an allowed name to a connection: resolve once, check every address, connect to the very one checked.

There is no second look-up between check and connect, so a name that changes its answer (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from engine.gateway.addresses import forbidden_kind
from engine.gateway.errors import GatewayError
from engine.gateway.limits import Limits
from vmm.connection import drop

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(name, port) -> IP addresses as text, best first; raises OSError."""
Connect = Callable[[str, int], Awaitable[Streams]]
"""(IP address, port) -> a stream pair; raises OSError or AddressRefused."""

LOOPBACK = ("127.0.0.1", "::1")
_BUFFER_BYTES = Limits.chunk_bytes  # twice that is held of what a guest does not take


class AddressRefused(GatewayError):
    """The name is allowed, but leads somewhere the guest must not go."""


class UpstreamUnreachable(GatewayError):
    """No address, or no address that answers."""


async def connect(address: str, port: int) -> Streams:
    """A TCP connection with keep-alive. Refuses one that turns out to end on this very host."""
    reader, writer = await asyncio.open_connection(address, port, limit=_BUFFER_BYTES)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if writer.get_extra_info("peername")[0] == writer.get_extra_info("sockname")[0]:
        # A public address of the host itself: services behind it trust the host, not its guests.
        drop(writer)
        raise AddressRefused(f"{address} is an address of this host")
    return reader, writer


async def connect_local(address: str, port: int) -> Streams:
    """A TCP connection to a service of this host."""
    return await asyncio.open_connection(address, port, limit=_BUFFER_BYTES)


async def open_local(port: int, *, connect: Connect, limits: Limits) -> Streams:
    """Connect to a port of this host's loopback, IPv4 first. Raises UpstreamUnreachable."""
    problems = []
    for address in LOOPBACK:
        try:
            async with asyncio.timeout(limits.connect_s):
                return await connect(address, port)
        except OSError as error:
            problems.append(f"{address}: {error.strerror or str(error) or 'no answer in time'}")
    raise UpstreamUnreachable(f"no service of this host answers on port {port}", "; ".join(problems))


async def open_upstream(
    name: str, port: int, *, private: bool, resolver: Resolver, connect: Connect, limits: Limits
) -> Streams:
    """Connect to the first permitted address that answers.

    Raises AddressRefused when the name has only forbidden addresses, UpstreamUnreachable when it has none or none
    answers. Waits `limits.resolve_s` for the names and `limits.connect_s` for each address.
    """
    try:
        async with asyncio.timeout(limits.resolve_s):
            addresses = await resolver(name, port)
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError; names that IDNA cannot carry raise the other
        raise UpstreamUnreachable(f"cannot resolve {name}", str(error) or "no answer in time") from error
    refusals = {address: forbidden_kind(address, private=private) for address in addresses}
    problems = [f"{address}: {kind} address" for address, kind in refusals.items() if kind]
    permitted = [address for address, kind in refusals.items() if not kind]
    if not permitted:
        if problems:
            raise AddressRefused(f"{name} resolves to {', '.join(problems)}")
        raise UpstreamUnreachable(f"cannot resolve {name}", "it has no address")
    refused = None
    for address in permitted:
        try:
            async with asyncio.timeout(limits.connect_s):
                return await connect(address, port)
        except AddressRefused as error:
            refused = error
        except OSError as error:
            problems.append(f"{address}: {error.strerror or str(error) or 'no answer in time'}")
    if refused is not None:
        raise refused
    raise UpstreamUnreachable(f"cannot connect to {name}:{port}", "; ".join(problems))
