"""The network of one guest: a gateway, and what carries the guest's packets to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.gateway.context import Keep
from engine.gateway.doors import Addresses
from engine.gateway.injection import Secrets
from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.gateway.proxies import Proxies
from engine.gateway.server import Gateway, start_gateway
from vmm.carrier import Carrier, open_carrier
from vmm.spec import Network
from vmm.tools import Tools

if TYPE_CHECKING:
    from engine.gateway.authority import Authority


@dataclass(frozen=True)
class GuestNetwork:
    """A gateway that listens, its carrier, and the two as the machine's network."""

    gateway: Gateway
    carrier: Carrier
    network: Network


@contextlib.asynccontextmanager
async def open_network(
    tools: Tools,
    policy: Policy,
    runtime: Path,
    journal: Journal,
    *,
    secrets: Secrets | None = None,
    keep: Keep | None = None,
    authority: Authority | None = None,
    proxies: Proxies | None = None,
    carrier: Awaitable[Carrier] | None = None,
    addresses: Mapping[str, str] | None = None,
) -> AsyncIterator[GuestNetwork]:
    """A gateway for `policy`, where the guest can reach it, for the length of the block. Start the machine within it.

    `carrier` is one for `doors_of` the policy that somebody else has opened. `addresses` are those that names have in
    this guest already.

    `runtime` is a short directory for sockets. Raises GatewayError as `start_gateway` does. Waits up to 15 s.
    """
    async with contextlib.AsyncExitStack() as stack:
        if carrier is None:
            carried = await stack.enter_async_context(open_carrier(tools, doors_of(policy, addresses)))
        else:
            carried = await asyncio.shield(asyncio.ensure_future(carrier))
        listeners = carried.listeners if carried.kind == "passt" else None
        gateway = await stack.enter_async_context(
            start_gateway(
                policy,
                runtime,
                journal,
                secrets=secrets,
                keep=keep,
                authority=authority,
                proxies=proxies,
                listeners=listeners,
                addresses=addresses,
            )
        )
        sockets = {(door.address, door.port): path for door, path in gateway.doors.items()}
        yield GuestNetwork(gateway, carried, carried.network(sockets))


def doors_of(policy: Policy, addresses: Mapping[str, str] | None = None) -> list[tuple[str, int]]:
    """(address, port) of each door of a guest's policy, where names have these `addresses`. The gateway gives out the
    same to others: they depend on nothing else. Raises GatewayError when there are more names than addresses."""
    return [(door.address, door.port) for door in Addresses(addresses).doors(policy)]
