from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from gateway_world import in_loop

from engine.gateway.limits import Limits
from engine.gateway.upstream import AddressRefused, Streams, UpstreamUnreachable, connect, open_upstream


def test_an_address_of_this_host_is_refused_whatever_it_is() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        try:
            with pytest.raises(AddressRefused, match="address of this host"):
                await connect("127.0.0.1", server.sockets[0].getsockname()[1])
        finally:
            server.close()
            await server.wait_closed()

    in_loop(scenario())


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    tried = []

    async def resolver(name: str, port: int) -> Sequence[str]:
        return ["203.0.113.1", "203.0.113.2", "203.0.113.3"]

    async def dial(address: str, port: int) -> Streams:
        tried.append(address)
        if address.endswith(".1"):
            await asyncio.Event().wait()
        raise ConnectionRefusedError(111, "Connection refused")

    async def scenario() -> None:
        limits = Limits(connect_s=0.05)
        with pytest.raises(UpstreamUnreachable) as caught:
            await open_upstream("a.example", 443, private=False, resolver=resolver, connect=dial, limits=limits)
        assert caught.value.details == (
            "203.0.113.1: no answer in time; 203.0.113.2: Connection refused; 203.0.113.3: Connection refused"
        )

    in_loop(scenario())
    assert tried == ["203.0.113.1", "203.0.113.2", "203.0.113.3"]


@pytest.mark.parametrize("outcome", ["nothing", "error", "silence"])
def test_a_name_that_does_not_resolve(outcome: str) -> None:
    async def resolver(name: str, port: int) -> Sequence[str]:
        if outcome == "silence":
            await asyncio.Event().wait()
        if outcome == "error":
            raise OSError("Name or service not known")
        return []

    async def scenario() -> None:
        limits = Limits(resolve_s=0.05)
        with pytest.raises(UpstreamUnreachable, match=r"cannot resolve a\.example"):
            await open_upstream("a.example", 443, private=False, resolver=resolver, connect=connect, limits=limits)

    in_loop(scenario())
