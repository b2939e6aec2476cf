"""How streams and connections of HTTP/2 end: resets, floods of them, servers that go away, rules that change."""

from __future__ import annotations

import asyncio

import h2.events
import pytest
from gateway_world import in_loop, until
from h2_world import Connection, Server, h2_guest, head
from inside_world import HOST, LOOK, inside_world

from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule


def test_resets_go_both_ways() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        if connection.requests[stream].get(":path") == ["/server"]:
            connection.respond(stream, b"part", end=False)
            connection.h2.reset_stream(stream, 8)
            connection.flush()

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                reply = await client.get("/server")
                assert (reply.reset, reply.ended) == (8, False)
                number = client.ask(head("/guest"))
                await until(lambda: len(server.requests) == 2)
                client.h2.reset_stream(number, 8)
                client.flush()
                await until(lambda: server.requests[1].reset == 8)
            lines = await w.quiet()
        assert [line["reason"] for line in lines] == ["api.example.com ended the request", "the guest cancelled it"]

    in_loop(scenario())


def test_a_server_that_has_answered_and_wants_no_more_of_the_body() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        connection.respond(stream, b"x" * 60000)
        connection.h2.reset_stream(stream, 0)
        connection.flush()

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                reply = await client.reply(client.ask(head("/up", "POST"), end=False))
                assert reply.ended and len(reply.body) == 60000

    in_loop(scenario())


@pytest.mark.parametrize("when", ["before", "within"])
def test_a_goaway_ends_no_answer(when: str) -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        if len(server.connections) > 1:
            connection.respond(stream, b"second")
            return
        last = stream if when == "within" else 0
        if when == "within":
            connection.respond(stream, b"one, ", end=False)
        connection.writer.write(bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + last.to_bytes(4, "big") + bytes(4))
        if when == "within":
            await connection.send(stream, b"two")

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                reply = await client.get("/1")
                assert bytes(reply.body) == (b"one, two" if when == "within" else b"second")
                assert bytes((await client.get("/2")).body) == b"second"
        assert len(server.connections) == 2

    in_loop(scenario())


def test_a_server_that_dies_ends_its_streams_and_not_the_guest_s_connection() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        if len(server.connections) > 1:
            connection.respond(stream, b"again")
        elif connection.requests[stream].get(":path") == ["/part"]:
            connection.respond(stream, b"part", end=False)
        else:
            connection.writer.transport.abort()

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                part = client.ask(head("/part"))
                await client.until(lambda: bytes(client.replies[part].body) == b"part")
                none = await client.get("/none")
                assert none.status == "502" and b"api.example.com" in none.body
                assert (await client.reply(part)).reset == 2
                assert bytes((await client.get("/after")).body) == b"again"
            lines = await w.quiet()
        assert [line["verdict"] for line in lines if line["path"] == "/none"] == ["failed"]

    in_loop(scenario())


def test_floods_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.gateway.h2resets.monotonic", lambda: 0.0)  # however slow this machine is

    async def scenario() -> None:
        server = Server(lambda *_: asyncio.sleep(0))
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                with pytest.raises((EOFError, OSError)):
                    for _ in range(3000):
                        number = client.ask(head())
                        client.h2.reset_stream(number, 8)
                        client.flush()
                        await client.writer.drain()
                    await client.until(lambda: False)
            await w.quiet()
            assert len(server.requests) <= 1001
            async with h2_guest(w) as client:  # it never reads what it makes us say
                ping = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + bytes(8)
                client.reader._transport.pause_reading()  # type: ignore[attr-defined]
                stalled = False
                for _ in range(400):
                    client.writer.write(ping * 1000)
                    try:
                        async with asyncio.timeout(0.3):
                            await client.writer.drain()
                    except TimeoutError:
                        stalled = True
                        break
                assert stalled
                client.writer.transport.abort()
            await w.quiet()

    in_loop(scenario())


def test_streams_that_are_cancelled_now_and_then_end_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch with a deadline is cancelled every few seconds, for days."""
    now = 0.0
    monkeypatch.setattr("engine.gateway.h2resets.monotonic", lambda: now)

    async def scenario() -> None:
        nonlocal now
        server = Server(lambda *_: asyncio.sleep(0))
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                for _ in range(30):
                    for _ in range(50):
                        client.h2.reset_stream(client.ask(head()), 8)
                    client.h2.ping(bytes(8))
                    client.flush()
                    seen = len(client.events)
                    await client.until(
                        lambda: any(isinstance(e, h2.events.PingAckReceived) for e in client.events[seen:])  # noqa: B023
                    )
                    now += 10

    in_loop(scenario())


def test_a_new_policy_cuts_the_streams_that_it_forbids() -> None:
    async def scenario() -> None:
        server = Server(lambda *_: asyncio.sleep(0))
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                cut, kept = client.ask(head("/cut")), client.ask(head("/kept"))
                await until(lambda: len(server.requests) == 2)
                w.plain.gateway.set_policy(Policy([Rule(HOST, paths=("/kept",))]))
                assert (await client.reply(cut)).reset == 8
                server.connections[0].respond(3, b"still here")
                assert bytes((await client.reply(kept)).body) == b"still here"
                await until(lambda: server.requests[0].reset == 8)
            lines = await w.quiet()
        assert {line["path"]: line["reason"] for line in lines}["/cut"] == "no longer allowed"

    in_loop(scenario())


def test_a_guest_that_says_nothing_is_dropped() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK, handler=Server().serve, alpn="h2", limits=Limits(head_s=0.1)) as w:
            async with w.guest(alpn=("h2",)) as (reader, _):
                await reader.read(-1)
            await w.quiet()

    in_loop(scenario())
