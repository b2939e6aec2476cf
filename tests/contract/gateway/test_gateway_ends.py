"""How connections end: resets, silence, deadlines, refusals of a server; what the other side and the journal see."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from gateway_world import client_hello, in_loop, until
from h2_world import Connection, Server, h2_guest, head
from inside_world import HOST, LOOK, SECRET_RULE, InsideWorld, get, inside_world
from test_gateway_websocket import ASK_WEBSOCKET, WebSocketServer

from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
PART = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"


def reset(writer: Writer) -> None:
    """End the TCP connection by RST, without a word of TLS."""
    sock = writer.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# The server ends


async def in_head(reader: Reader, writer: Writer) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 O")
    await writer.drain()
    reset(writer)


async def before_it_answers(reader: Reader, writer: Writer) -> None:
    await reader.readuntil(b"\r\n\r\n")
    reset(writer)


async def in_answer(reader: Reader, writer: Writer) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(PART)
    await writer.drain()
    reset(writer)


async def says_nothing(reader: Reader, writer: Writer) -> None:
    await reader.read(-1)


async def stops_in_answer(reader: Reader, writer: Writer) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(PART)
    await reader.read(-1)


async def is_no_http(reader: Reader, writer: Writer) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"220 ready\r\n\r\n")
    await reader.read(-1)


SERVERS: dict[str, tuple[Callable[[Reader, Writer], Awaitable[None]], bytes, str]] = {
    "a reset before the answer": (before_it_answers, b"HTTP/1.1 502 ", "broke off: "),
    "a reset in the head": (in_head, b"HTTP/1.1 502 ", "broke off: "),
    "a reset in the answer": (in_answer, b"HTTP/1.1 200 ", "broke off: "),
    "silence": (says_nothing, b"HTTP/1.1 502 ", "api.example.com said nothing for 1 s"),
    "silence in the answer": (stops_in_answer, b"HTTP/1.1 200 ", "api.example.com said nothing for 1 s"),
    "another protocol": (is_no_http, b"HTTP/1.1 502 ", "malformed answer"),
}


@pytest.mark.parametrize(("handler", "answer", "reason"), SERVERS.values(), ids=SERVERS)
def test_a_server_that_breaks_off_or_hangs_and_nobody_else_suffers(
    handler: Callable[[Reader, Writer], Awaitable[None]], answer: bytes, reason: str
) -> None:
    async def scenario() -> None:
        over = asyncio.Event()

        async def serve(reader: Reader, writer: Writer) -> None:
            while b"/well" in (first := await reader.readuntil(b"\r\n\r\n")):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
            reader.feed_data(first)  # for the handler
            await handler(reader, writer)

        async def be_well(w: InsideWorld) -> int:
            async with w.guest() as (reader, writer):
                count = 0
                while not over.is_set() or not count:
                    writer.write(get("/well"))
                    assert (await reader.readuntil(b"fine")).startswith(b"HTTP/1.1 200 ")
                    count += 1
                return count

        async with inside_world(LOOK, handler=serve, limits=Limits(idle_s=1.0)) as w:
            well = asyncio.create_task(be_well(w))
            async with w.guest() as (reader, writer):
                writer.write(get("/x"))
                got = bytearray()
                with suppress(OSError):
                    while data := await reader.read(65536):
                        got += data
                assert got.startswith(answer), got
                over.set()
                count = await well
            lines = await w.quiet()
        (line,) = [line for line in lines if line["path"] == "/x"]
        assert reason in line["reason"] and not line["reason"].endswith(": "), line
        others = [(line["verdict"], line["reason"]) for line in lines if line["path"] == "/well"]
        assert others == [("allowed", "api.example.com:443 is allowed by endpoints[0]")] * count

    in_loop(scenario())


def test_a_server_of_http2_that_hangs_is_told_and_its_streams_end() -> None:
    async def scenario() -> None:
        server = Server(lambda *_: asyncio.sleep(0))
        async with inside_world(LOOK, handler=server.serve, alpn="h2", limits=Limits(idle_s=0.5)) as w:
            async with h2_guest(w) as client:
                reply = await client.get("/x")
                assert reply.status == "502" and b"api.example.com said nothing for 0.5 s" in reply.body
            (line,) = await w.quiet()
        assert (line["verdict"], line["reason"]) == ("failed", "api.example.com said nothing for 0.5 s")
        assert [request.get(":path") for request in server.requests] == [["/x"]]

    in_loop(scenario())


def test_a_request_that_a_server_refuses_unseen_may_be_sent_again_by_the_guest() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        if len(server.requests) == 1:
            connection.h2.reset_stream(stream, 7)
            connection.flush()
        else:
            connection.respond(stream, b"now")

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                assert (await client.get("/x")).reset == 7  # REFUSED_STREAM
                assert bytes((await client.get("/x")).body) == b"now"

    in_loop(scenario())


GOAWAY = bytes([0, 0, 8, 7, 0, 0, 0, 0, 0])


def test_a_server_that_sends_everything_away_is_asked_twice_and_no_more() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        connection.writer.write(GOAWAY + bytes(8))

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                assert (await client.get("/x")).reset == 7
            await w.quiet()
        assert [len(connection.requests) for connection in server.connections] == [1, 1]

    in_loop(scenario())


def test_what_a_server_has_not_looked_at_is_sent_again_only_without_a_body() -> None:
    """The last id of a GOAWAY is below two of three streams."""

    async def answer(server: Server, connection: Connection, stream: int) -> None:
        if len(server.connections) > 1:
            connection.respond(stream, b"second")
        elif len(connection.requests) == 3:
            connection.writer.write(GOAWAY + (1).to_bytes(4, "big") + bytes(4))
            connection.respond(1, b"first")

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                numbers = [
                    client.ask(head("/1")),
                    client.ask(head("/body", "POST"), body=b"once"),
                    client.ask(head("/3")),
                ]
                replies = [await client.reply(number) for number in numbers]
        assert [bytes(reply.body) for reply in replies] == [b"first", b"", b"second"]
        assert [reply.reset for reply in replies] == [None, 7, None]
        assert [request.get(":path") for request in server.connections[1].requests.values()] == [["/3"]]

    in_loop(scenario())


def test_a_goaway_after_the_answers_ends_nothing() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        connection.respond(stream, b"x")
        if len(server.connections) == 1:
            connection.writer.write(GOAWAY + stream.to_bytes(4, "big") + bytes(4))
            connection.writer.close()

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                for _ in range(3):
                    assert bytes((await client.get("/x")).body) == b"x"
        assert [len(connection.requests) for connection in server.connections] == [1, 2]

    in_loop(scenario())


# The guest ends


@pytest.mark.parametrize(
    "said",
    [
        b"GET /x HTTP/1.1\r\nHo",
        get("/x", extra="Content-Length: 100\r\n", method="POST") + b"part",
        get("/x"),
    ],
    ids=["in the head", "in the body", "before the answer"],
)
def test_a_guest_that_breaks_off_ends_the_server_s_side_too(said: bytes) -> None:
    async def scenario() -> None:
        seen, over = asyncio.Event(), asyncio.Event()
        got = bytearray()

        async def serve(reader: Reader, writer: Writer) -> None:
            try:
                while data := await reader.read(65536):
                    got.extend(data)
                    if b"\r\n\r\n" in got:
                        writer.write(PART)
                        seen.set()
            finally:
                over.set()

        async with inside_world(LOOK, handler=serve) as w:
            async with w.guest() as (_, writer):
                writer.write(said)
                if said.startswith(get("/x")):
                    await seen.wait()
                await writer.drain()
                reset(writer)
            await over.wait()
            (line,) = await w.quiet()
        assert b"evil" not in got and got.count(b" HTTP/1.1\r\n") <= 1
        assert (line["verdict"] == "refused") is (b"Ho" in said[-3:] or b"POST" in said), line

    in_loop(scenario())


def test_a_head_that_never_ends_inside_tls() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK, limits=Limits(head_s=0.2, linger_s=0.2)) as w:
            answer = await w.ask(b"GET / HTTP/1.1\r\nHost")
            assert answer.startswith(b"HTTP/1.1 408 ")
            (line,) = await w.quiet()
            assert "no complete request head within 0.2 s" in line["reason"]
        assert w.recorder.everything == b""

    in_loop(scenario())


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_an_idle_connection_ends(alpn: str) -> None:
    async def scenario() -> None:
        server = Server()
        handler = server.serve if alpn == "h2" else None
        async with inside_world(LOOK, handler=handler, alpn=alpn, limits=Limits(idle_s=0.5)) as w:
            if alpn == "h2":
                async with h2_guest(w) as client:
                    assert (await client.get("/x")).status == "200"
                    with pytest.raises(EOFError):
                        await client.until(lambda: False)
            else:
                async with w.guest() as (reader, writer):
                    writer.write(get("/x"))
                    assert (await reader.read(-1)).endswith(b"/x")
            await w.quiet()

    in_loop(scenario())


def test_a_guest_of_http2_that_makes_us_talk_and_never_reads_is_dropped_in_the_end() -> None:
    """PING must be answered; whoever takes no answers is not read from, and then not kept."""

    async def scenario() -> None:
        ping = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + bytes(8)
        limits = Limits(idle_s=0.5, linger_s=0.2)
        async with inside_world(LOOK, handler=Server().serve, alpn="h2", limits=limits, deadline_s=50.0) as w:
            async with h2_guest(w) as client:
                client.reader._transport.pause_reading()  # type: ignore[attr-defined]
                with pytest.raises(OSError):
                    while True:
                        client.writer.write(ping * 1000)
                        await client.writer.drain()
            await w.quiet()

    in_loop(scenario())


# All of it ends


def test_the_end_of_a_gateway_closes_what_is_inside() -> None:
    async def scenario() -> None:
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        gone = asyncio.Event()

        async def hold(reader: Reader, writer: Writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(PART)
            try:
                await reader.read(-1)
            finally:
                gone.set()

        async with inside_world(LOOK, handler=hold) as w:
            _, writer = await asyncio.open_unix_connection(str(w.plain.gateway.sockets[443]))
            writer.write(client_hello(HOST))  # in the handshake
            async with w.guest() as (inside_reader, inside_writer), w.guest():
                inside_writer.write(get("/x"))
                await inside_reader.readuntil(b"part")
                await w.plain.gateway._close()
                assert w.plain.gateway.connections == 0
                await gone.wait()
                lines = w.plain.lines()
            writer.close()
            await writer.wait_closed()
        assert [line["reason"] for line in lines if line.get("path") == "/x"] == [
            "api.example.com:443 is allowed by endpoints[0]; cut off"
        ]
        server, socket_server = Server(lambda *_: asyncio.sleep(0)), WebSocketServer()
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                client.ask(head("/x"))
                await until(lambda: len(server.requests) == 1)
                await w.plain.gateway._close()
                (line,) = w.plain.lines()
        assert (line["path"], line["verdict"], line["reason"]) == ("/x", "allowed", "cut off")
        async with inside_world(LOOK, handler=socket_server.serve) as w:
            async with w.guest() as (inside_reader, inside_writer):
                inside_writer.write(get("/ws", extra=ASK_WEBSOCKET))
                await inside_reader.readuntil(b"\r\n\r\n")
                await w.plain.gateway._close()
        await until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors)

    in_loop(scenario())


def test_a_policy_change_cuts_a_websocket() -> None:
    async def scenario() -> None:
        server = WebSocketServer()
        async with inside_world(SECRET_RULE, handler=server.serve) as w:
            async with w.guest() as (reader, writer):
                frame = b"\x81\x05hello"  # of a server: it comes back as it is
                writer.write(get("/ws", extra=ASK_WEBSOCKET) + frame)
                await reader.readuntil(b"\r\n\r\n" + frame)
                w.plain.gateway.set_policy(Policy([Rule(HOST, paths=("/other",))]))
                with suppress(OSError):
                    assert await reader.read(-1) == b""
            (line,) = await w.quiet()
        assert "no longer allowed" in line["reason"] and server.got == frame

    in_loop(scenario())
