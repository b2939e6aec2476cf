"""HTTP/2 while a new connection to the server is being made: the other streams go on, and nothing is lost or late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from gateway_world import PUBLIC, in_loop, until
from h2_world import Client, Connection, Server, h2_guest, head
from inside_world import HOST, LOOK, SECRET_RULE, InsideWorld, inside_world

from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.gateway.upstream import Streams

GOAWAY = bytes([0, 0, 8, 7, 0, 0, 0, 0, 0])
BLOCK = bytes(1 << 16)


@dataclass
class Redial:
    """A server whose first connection drains under a download, and whose second one is only made when it may be."""

    w: InsideWorld
    client: Client
    server: Server
    download: int
    dialled: asyncio.Event
    may: asyncio.Event
    more: asyncio.Event
    error: Exception | None = None

    async def still_flows(self) -> None:
        """The download moves by more than all windows hold."""
        reply = self.client.replies[self.download]
        before = len(reply.body)
        self.more.set()
        await self.client.until(lambda: len(reply.body) - before >= 3 << 20)


@asynccontextmanager
async def redial() -> AsyncIterator[Redial]:
    more = asyncio.Event()

    async def answer(server: Server, connection: Connection, stream: int) -> None:
        request = connection.requests[stream]
        if request.get(":path") != ["/download"]:
            while not request.ended and request.reset is None:
                connection.moved.clear()
                await connection.moved.wait()
            connection.respond(stream, b"got " + bytes(request.body))
            return
        connection.respond(stream, b"begun", end=False)
        connection.writer.write(GOAWAY + stream.to_bytes(4, "big") + bytes(4))
        await more.wait()
        for _ in range(64):
            await connection.send(stream, BLOCK, end=False)

    server = Server(answer)
    async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
        async with h2_guest(w) as client:
            download = client.ask(head("/download"))
            await client.until(lambda: bytes(client.replies[download].body) == b"begun")
            found = Redial(w, client, server, download, asyncio.Event(), asyncio.Event(), more)
            context = w.plain.gateway._context
            really = context.connect

            async def connect(address: str, port: int) -> Streams:
                found.dialled.set()
                await found.may.wait()
                if found.error:
                    raise found.error
                return await really(address, port)

            context.connect = connect
            await until(lambda: any(True for _ in server.connections))
            # What the GOAWAY says is known when the guest has got what came behind it.
            client.h2.ping(bytes(8))
            client.flush()
            yield found


def test_the_other_streams_go_on_and_the_new_one_loses_nothing() -> None:
    async def scenario() -> None:
        async with redial() as r:
            number = r.client.ask(head("/up", "POST"), body=b"early, ", end=False)
            await r.dialled.wait()
            r.client.h2.send_data(number, b"late", end_stream=True)
            r.client.flush()
            await r.still_flows()
            assert len(r.server.connections) == 1
            r.may.set()
            assert bytes((await r.client.reply(number)).body) == b"got early, late"
        (request,) = r.server.connections[1].requests.values()
        assert bytes(request.body) == b"early, late" and request.ended

    in_loop(scenario())


def test_a_server_that_cannot_be_reached_again_is_told_to_the_new_stream_alone() -> None:
    async def scenario() -> None:
        async with redial() as r:
            number = r.client.ask(head("/up", "POST"), body=b"early", end=False)
            await r.dialled.wait()
            r.error = ConnectionRefusedError(111, "Connection refused")
            r.may.set()
            reply = await r.client.reply(number)
            assert reply.status == "502" and b"cannot connect to api.example.com:443" in reply.body
            await r.still_flows()
            lines = r.w.plain.lines()
        assert [line["verdict"] for line in lines if line["path"] == "/up"] == ["failed"]

    in_loop(scenario())


@pytest.mark.parametrize("how", ["the guest cancels", "a new policy", "the guest hangs up"])
def test_what_ends_a_stream_ends_one_that_waits(how: str) -> None:
    async def scenario() -> None:
        async with redial() as r:
            number = r.client.ask(head("/up", "POST"), body=b"early", end=False)
            await r.dialled.wait()
            reply: Any = r.client.replies[number]
            if how == "the guest cancels":
                r.client.h2.reset_stream(number, 8)
                r.client.flush()
                await r.still_flows()
            elif how == "a new policy":
                r.w.plain.gateway.set_policy(Policy([Rule(HOST, paths=("/download", "/after"))]))
                await r.client.until(lambda: reply.status)
                assert reply.status == "403"  # nothing of it has gone out, so there is an answer still
                await r.still_flows()
            else:
                r.client.writer.transport.abort()
                await until(lambda: r.w.plain.gateway.connections == 0)
            r.may.set()
            if how != "the guest hangs up":
                assert bytes((await r.client.get("/after")).body)
            lines = await r.w.quiet() if how == "the guest hangs up" else r.w.plain.lines()
        reasons = {
            "the guest cancels": "the guest cancelled it",
            "a new policy": "no longer allowed",
            "the guest hangs up": "the guest broke off",  # without a word of TLS
        }
        assert [line["reason"] for line in lines if line["path"] == "/up"] == [reasons[how]]
        paths = [
            request.get(":path") for connection in r.server.connections[1:] for request in connection.requests.values()
        ]
        assert ["/up"] not in paths

    in_loop(scenario())


@pytest.mark.parametrize("how", ["the guest cancels", "a new policy"])
def test_what_ends_a_stream_that_is_to_be_sent_again_keeps_it_from_the_server(how: str) -> None:
    """A server has sent it away unseen. Its credential goes nowhere any more."""
    dialled, may = asyncio.Event(), asyncio.Event()

    async def answer(server: Server, connection: Connection, stream: int) -> None:
        if len(server.connections) == 1:
            connection.writer.write(GOAWAY + bytes(8))
        else:
            connection.respond(stream, b"here")

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                hold_dials(w, dialled, may)
                number = client.ask(head("/again"))
                await dialled.wait()
                if how == "the guest cancels":
                    client.h2.reset_stream(number, 8)
                    client.flush()
                    await until(lambda: bool(w.plain.lines()))
                else:
                    w.plain.gateway.set_policy(Policy([replace(SECRET_RULE, paths=("/after",))]))
                    assert (await client.reply(number)).reset == 8
                may.set()
                assert bytes((await client.get("/after")).body) == b"here"
            lines = await w.quiet()
        reason = "the guest cancelled it" if how == "the guest cancels" else "no longer allowed"
        assert [line["reason"] for line in lines if line["path"] == "/again"] == [reason]
        assert [request.get(":path") for request in server.connections[1].requests.values()] == [["/after"]]

    in_loop(scenario())


def test_a_connection_that_drains_ends_with_its_last_stream_though_the_guest_ended_that() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        connection.respond(stream, b"begun", end=False)
        connection.writer.write(GOAWAY + stream.to_bytes(4, "big") + bytes(4))

    async def scenario() -> None:
        ended = asyncio.Event()
        server = Server(answer)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.serve(reader, writer)
            ended.set()

        async with inside_world(LOOK, handler=serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                number = client.ask(head("/"))
                await client.until(lambda: bytes(client.replies[number].body) == b"begun")
                client.h2.reset_stream(number, 8)
                client.flush()
                await ended.wait()
                assert server.requests[0].reset == 8

    in_loop(scenario())


def test_who_waits_for_a_connection_shares_the_failure_of_the_attempt() -> None:
    """Each would otherwise wait for an attempt of its own, one after the other."""
    dialled, may = asyncio.Event(), asyncio.Event()

    async def answer(server: Server, connection: Connection, stream: int) -> None:
        connection.writer.transport.abort()

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                error = ConnectionRefusedError(111, "Connection refused")
                attempts = hold_dials(w, dialled, may, error)
                assert (await client.get("/dies")).status == "502"
                numbers = [client.ask(head(f"/{n}")) for n in range(10)]
                await dialled.wait()
                await until(lambda: len(w.plain.gateway._context.live) == 10)
                may.set()
                for number in numbers:
                    reply = await client.reply(number)
                    assert reply.status == "502" and b"cannot connect to api.example.com:443" in reply.body
                assert attempts == 1 * [PUBLIC]
                assert (await client.get("/later")).status == "502"  # whoever comes later makes another
                assert attempts == 2 * [PUBLIC]
            lines = await w.quiet()
        assert [line["verdict"] for line in lines] == ["failed"] * 12
        assert {line["reason"] for line in lines[1:]} == {
            f"cannot connect to api.example.com:443: {PUBLIC}: Connection refused"
        }

    in_loop(scenario())


def hold_dials(w: InsideWorld, dialled: asyncio.Event, may: asyncio.Event, error: Exception | None = None) -> list[str]:
    """From now on a connection is only made when it may be, or fails with the error. Returns the attempts, so far."""
    context = w.plain.gateway._context
    really, attempts = context.connect, list[str]()

    async def connect(address: str, port: int) -> Streams:
        attempts.append(address)
        dialled.set()
        await may.wait()
        if error is not None:
            raise error
        return await really(address, port)

    context.connect = connect
    return attempts
