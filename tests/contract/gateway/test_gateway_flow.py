"""What flows inside TLS: events as they come over HTTP/2, answers before a body's end, large bodies in flat memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from gateway_world import in_loop, until
from h2_world import Connection, Server, h2_guest, head
from inside_world import CLOSE, HOST, LOOK, SECRET_RULE, get, inside_world

from engine.gateway.limits import Limits
from engine.gateway.rules import Rule

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
BLOCK = os.urandom(1 << 16)
SIZE = 24 << 20


def test_each_event_is_passed_on_as_it_comes_over_http2() -> None:
    """The server sends the next only when the guest has the one before: held back, nothing would go on."""

    async def scenario() -> None:
        next_one = asyncio.Event()

        async def answer(server: Server, connection: Connection, stream: int) -> None:
            connection.respond(stream, end=False, extra=[("content-type", "text/event-stream")])
            for number in range(20):
                await next_one.wait()
                next_one.clear()
                await connection.send(stream, b"data: %d sk\n\n" % number, end=False)
            connection.h2.end_stream(stream)
            connection.flush()

        server = Server(answer)
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                number = client.ask(head("/events"))
                reply = client.replies[number]
                for event in range(20):
                    next_one.set()
                    ending = b"data: %d sk\n\n" % event
                    await client.until(lambda ending=ending: reply.body.endswith(ending))  # type: ignore[misc]
                assert (await client.reply(number)).ended and reply.body.count(b"data: ") == 20

    in_loop(scenario())


def test_answers_without_a_body_over_http2() -> None:
    statuses = {"/204": 204, "/304": 304, "/head": 200}

    async def answer(server: Server, connection: Connection, stream: int) -> None:
        path = connection.requests[stream].get(":path")[0]
        extra = [("content-length", "99")] if path == "/head" else []
        connection.respond(stream, status=statuses[path], extra=extra)

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                for path, status in statuses.items():
                    number = client.ask(head(path, "HEAD" if path == "/head" else "GET"))
                    reply = await client.reply(number)
                    assert reply.status == str(status) and reply.ended and not reply.body
                    assert ("content-length", "99") in reply.headers or path != "/head"

    in_loop(scenario())


def test_an_answer_before_the_body_s_end_ends_the_upload() -> None:
    async def scenario() -> None:
        got = 0

        async def refuse(reader: Reader, writer: Writer) -> None:
            nonlocal got
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
            await writer.drain()
            writer.write_eof() if writer.can_write_eof() else None
            while data := await reader.read(1 << 16):
                got += len(data)

        async with inside_world(LOOK, handler=refuse, limits=Limits(linger_s=0.3)) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/up", extra=f"Content-Length: {SIZE}\r\n", method="POST") + BLOCK)
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 413 ")
                assert await reader.readexactly(5) == b"large"
            (line,) = await w.quiet()
        assert line["verdict"] == "allowed" and got <= len(BLOCK)

    in_loop(scenario())


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_large_bodies_both_ways_over_http2_in_flat_memory() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        request = connection.requests[stream]
        if request.get(":path") == ["/down"]:
            connection.respond(stream, end=False)
            for left in range(SIZE // len(BLOCK) - 1, -1, -1):
                await connection.send(stream, BLOCK, end=not left)
            return
        digest, size = hashlib.sha256(), 0
        while not request.ended or request.body:
            if not request.body:
                connection.moved.clear()
                await connection.moved.wait()
            digest.update(request.body)
            size += len(request.body)
            request.body.clear()
            connection.events.clear()  # which hold all data
        connection.respond(stream, b"%d %s" % (size, digest.hexdigest().encode()))

    async def scenario() -> None:
        wanted = hashlib.sha256()
        for _ in range(SIZE // len(BLOCK)):
            wanted.update(BLOCK)
        server = Server(answer)
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2", deadline_s=50.0) as w:
            async with h2_guest(w) as client:
                assert (await client.reply(client.ask(head("/up", "POST"), body=b""))).status == "200"
                before = peak = resident_bytes()
                number = client.ask(head("/up", "POST"), end=False)
                for left in range(SIZE // 16384 - 1, -1, -1):
                    window = client.h2.local_flow_control_window
                    if window(number) < 16384:
                        peak = max(peak, resident_bytes())
                        await client.until(lambda: window(number) >= 16384)  # noqa: B023
                    at = (SIZE // 16384 - 1 - left) * 16384 % len(BLOCK)
                    client.h2.send_data(number, BLOCK[at : at + 16384], end_stream=not left)
                    client.flush()
                    await client.writer.drain()
                reply = await client.reply(number)
                assert bytes(reply.body) == b"%d %s" % (SIZE, wanted.hexdigest().encode())
                number, digest, size = client.ask(head("/down")), hashlib.sha256(), 0
                reply = client.replies[number]
                while size < SIZE:
                    await client.until(lambda: len(reply.body) > 0)
                    digest.update(reply.body)
                    size += len(reply.body)
                    reply.body.clear()
                    client.events.clear()
                    peak = max(peak, resident_bytes()) if size % (4 << 20) < 1 << 16 else peak
                assert digest.digest() == wanted.digest()
        assert peak - before < 24 << 20, f"{(peak - before) >> 20} MB more"

    in_loop(scenario())


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_two_hundred_megabytes_to_a_refused_path_are_not_taken(alpn: str) -> None:
    """What a guest pushes at a refusal is bounded: it is told, and then not read from any more."""

    async def scenario() -> None:
        server = Server()
        handler = server.serve if alpn == "h2" else None
        rule = Rule(HOST, paths=("/ok",))
        async with inside_world(rule, handler=handler, alpn=alpn, limits=Limits(linger_s=0.5)) as w:
            before, pushed = resident_bytes(), 0
            if alpn == "h2":
                async with h2_guest(w) as client:
                    number = client.ask(head("/no", "POST"), end=False)
                    reply = await client.reply(number)
                    assert reply.status == "403"
                    while pushed < 200 << 20 and reply.reset is None:
                        if client.h2.local_flow_control_window(number) < 16384:
                            await client.until(
                                lambda: client.h2.local_flow_control_window(number) >= 16384 or reply.reset is not None
                            )
                            continue
                        client.h2.send_data(number, BLOCK[:16384])
                        client.flush()
                        pushed += 16384
                    assert reply.reset == 0 and pushed < 2 << 20
            else:
                async with w.guest() as (reader, writer):
                    writer.write(get("/no", extra=f"Content-Length: {200 << 20}\r\n", method="POST"))
                    assert await reader.readline() == b"HTTP/1.1 403 Forbidden\r\n"
                    with pytest.raises(OSError):
                        while pushed < 200 << 20:
                            writer.write(BLOCK)
                            await writer.drain()
                            pushed += len(BLOCK)
                        await reader.read(-1)
                        raise ConnectionError
            assert resident_bytes() - before < 10 << 20
            await w.quiet()
        assert server.requests == [] and w.recorder.everything == b""

    in_loop(scenario())


def test_a_stream_that_nobody_reads_does_not_hold_the_others() -> None:
    async def scenario() -> None:
        pushed = 0

        async def answer(server: Server, connection: Connection, stream: int) -> None:
            nonlocal pushed
            if connection.requests[stream].get(":path") != ["/endless"]:
                connection.respond(stream, b"small")
                return
            connection.respond(stream, end=False)
            while True:
                await connection.send(stream, BLOCK, end=False)
                pushed += len(BLOCK)

        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                client.acknowledge = False
                client.h2.increment_flow_control_window(8 << 20)
                for _ in range(8):
                    client.ask(head("/endless"))
                await client.until(lambda: all(len(reply.body) >= 65535 for reply in client.replies.values()))
                before = resident_bytes()
                for _ in range(50):
                    assert bytes((await client.get("/small")).body) == b"small"
                assert resident_bytes() - before < 10 << 20
                # Of each stream: what the guest took, one window of ours, and what the server's socket holds.
                assert pushed < 8 * (65535 + (1 << 20)) + (4 << 20)
            await until(lambda: w.plain.gateway.connections == 0)

    in_loop(scenario())


def test_a_head_only_answer_keeps_the_connection() -> None:
    async def scenario() -> None:
        replies = {"/h": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"}
        async with inside_world(LOOK, replies=replies) as w:
            answer = await w.ask(get("/h", method="HEAD") + get("/after", extra=CLOSE))
        assert answer.endswith(b"/after") and len(w.recorder.received) == 1

    in_loop(scenario())
