"""Rules beside those of the file: what they open counts at once, what they deny cuts what is open, in any protocol."""

from __future__ import annotations

import asyncio

import pytest
from gateway_world import client_hello, echo, in_loop, world
from h2_world import Client, Server
from inside_world import HOST, LOOK, get, inside_world
from test_gateway_websocket import ASK_WEBSOCKET, WebSocketServer

from engine.gateway.policy import Policy
from engine.gateway.rules import Rule

DENY = Rule(HOST, deny=True, origin="sandbox deny api.example.com")
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


def test_what_is_spliced_is_cut_and_nothing_else() -> None:
    async def scenario() -> None:
        hello, other = client_hello(HOST), client_hello("other.example.com")
        async with world(Rule("other.example.com"), handler=echo) as w:
            assert w.gateway.set_temporary([Rule(HOST)]) == 0
            async with w.guest(443) as (cut, writer), w.guest(443) as (kept, kept_writer):
                writer.write(hello)
                await cut.readexactly(len(hello))
                kept_writer.write(other)
                await kept.readexactly(len(other))
                assert w.gateway.set_temporary([]) == 1
                assert await cut.read(-1) == b""
                kept_writer.write(b"still here")
                assert await kept.readexactly(10) == b"still here"
            lines = await w.quiet()
        assert lines[0]["reason"] == "no longer allowed; cut off"

    in_loop(scenario())


def test_a_websocket_is_cut() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK, handler=WebSocketServer().serve) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/ws", extra=ASK_WEBSOCKET) + b"ping")
                await reader.readuntil(b"ping")
                assert w.plain.gateway.set_temporary([DENY]) == 1
                assert await reader.read(-1) == b""
            (line,) = await w.quiet()
        assert line["verdict"] == "allowed" and "no longer allowed" in line["reason"]

    in_loop(scenario())


def test_streams_of_http_2_are_cut_and_the_next_is_refused() -> None:
    async def silent(server: Server, connection: object, stream: int) -> None: ...

    async def scenario() -> None:
        server = Server(silent)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with w.guest(alpn=("h2",)) as streams:
                client = Client(*streams)
                fields = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/a")]
                first = client.ask(fields)
                while not server.requests:  # noqa: ASYNC110 - the server has no event for that
                    await asyncio.sleep(0.005)
                assert w.plain.gateway.set_temporary([DENY]) == 1
                assert (await client.reply(first)).reset == 8
                refused = await client.reply(client.ask(fields))
                assert refused.status == "403" and b"denied by sandbox deny api.example.com" in refused.body
            await w.quiet()
        assert len(server.requests) == 1

    in_loop(scenario())


def test_a_request_that_is_on_its_way_to_the_server_is_judged_again() -> None:
    """An h2 request that waits for a new connection to the server has nothing yet that could be cut."""

    async def scenario() -> None:
        server = Server()
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            gateway = w.plain.gateway
            async with w.guest(alpn=("h2",)) as streams:
                client = Client(*streams)
                fields = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/a")]
                assert (await client.reply(client.ask(fields))).status == "200"
                server.connections[0].h2.close_connection()  # GOAWAY: the next request needs another connection
                server.connections[0].flush()
                context = gateway._context
                connect = context.connect

                async def change_first(address: str, port: int) -> tuple[Reader, Writer]:
                    gateway.set_temporary([DENY])
                    return await connect(address, port)

                await client.until(lambda: True)
                context.connect = change_first
                reply = await client.reply(client.ask(fields))
                assert reply.status == "403"
            await w.quiet()
        assert len(server.requests) == 1

    in_loop(scenario())


def test_rules_of_the_file_may_change_beneath() -> None:
    async def scenario() -> None:
        async with world(Rule("old.example.com"), handler=echo) as w:
            w.gateway.set_temporary([Rule(HOST)])
            w.gateway.set_policy(Policy([Rule("new.example.com")]))
            assert w.gateway.filed == Policy([Rule("new.example.com")])
            for name, allowed in ((HOST, True), ("new.example.com", True), ("old.example.com", False)):
                assert w.gateway.policy.decide(name, 443).allowed == allowed

    in_loop(scenario())


@pytest.mark.parametrize("changeable", [False, True])
def test_a_refusal_names_what_can_be_run(changeable: bool) -> None:
    """In a build nobody can allow anything while it runs: there the file has to be changed."""

    async def scenario() -> None:
        async with world() as w:
            if changeable:
                w.gateway.accept_temporary()
            answer = (await w.ask(80, get("/", host="new.example.com"))).decode()
            command = "sandbox allow new.example.com" if changeable else "sandbox add endpoint new.example.com"
            assert f"or run on the host: {command}\n" in answer

    in_loop(scenario())


def test_the_journal_has_paths_in_normal_form() -> None:
    async def answer(reader: Reader, writer: Writer) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ")[1]
            writer.write(b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\n\r\n%s" % (len(target), target))

    async def scenario() -> None:
        async with world(Rule(HOST), handler=answer) as w:
            async with w.guest(80) as (reader, writer):
                writer.write(get("/%61%2fb?token=x"))
                await reader.readuntil(b"/%61%2fb?token=x")  # it goes on byte for byte
            (line,) = await w.quiet()
        assert line["path"] == "/a%2Fb"

    in_loop(scenario())
