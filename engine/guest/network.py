"""The network of one guest: a gateway, and what carries the guest's packets to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
    authority: Authority | None = None,
    proxies: Proxies | None = None,
) -> AsyncIterator[GuestNetwork]:
    """A gateway for `policy`, where the guest can reach it, for the length of the block. Start the machine within it.

    `runtime` is a short directory for sockets. Raises GatewayError as `start_gateway` does. Waits up to 15 s.
    """
    doors = [(door.address, door.port) for door in Addresses().doors(policy)]  # those that the gateway will have, too
    async with contextlib.AsyncExitStack() as stack:
        carrier = await stack.enter_async_context(open_carrier(tools, doors))
        listeners = carrier.listeners if carrier.kind == "passt" else None
        gateway = await stack.enter_async_context(
            start_gateway(
                policy,
                runtime,
                journal,
                secrets=secrets,
                authority=authority,
                proxies=proxies,
                listeners=listeners,
            )
        )
        sockets = {(door.address, door.port): path for door, path in gateway.doors.items()}
        yield GuestNetwork(gateway, carrier, carrier.network(sockets))
