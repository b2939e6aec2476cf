"""Inside TLS, as it comes: streams, WebSockets, large bodies, ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import time
from pathlib import Path

import pytest
from gateway_world import DEADLINE_S, in_loop, until
from inside_world import (
    CLOSE,
    HOST,
    LOOK,
    SECRET_RULE,
    client_context,
    get,
    guest_authority,
    inside_world,
    raw_guest,
)

from engine.gateway.limits import Limits
from engine.gateway.rules import Rule

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
BLOCK = os.urandom(1 << 16)


def test_each_event_is_passed_on_as_it_comes() -> None:
    async def scenario() -> None:
        next_one = asyncio.Event()

        async def events(reader: Reader, writer: Writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(20):
                await next_one.wait()
                next_one.clear()
                event = b"data: %d s\n\n" % number
                writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                await writer.drain()
            writer.write(b"0\r\n\r\n")

        async with inside_world(SECRET_RULE, handler=events) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/events"))
                await reader.readuntil(b"\r\n\r\n")
                took = []
                for number in range(20):  # the next is sent only when this one is here
                    started = time.monotonic()
                    next_one.set()
                    await reader.readuntil(b"data: %d s\n\n\r\n" % number)
                    took.append(time.monotonic() - started)
                assert (await reader.readuntil(b"0\r\n\r\n")) == b"0\r\n\r\n"
                assert sorted(took)[10] < 0.1  # a loaded machine included

    in_loop(scenario())


def test_100_continue_is_the_server_s_to_say() -> None:
    async def refuse(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert await reader.read(-1) == b""

    async def scenario() -> None:
        expect = get("/up", extra="Expect: 100-continue\r\nContent-Length: 3\r\n", method="POST")
        async with inside_world(LOOK) as w:
            async with w.guest() as (reader, writer):
                writer.write(expect)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
                writer.write(b"abc")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            assert w.recorder.requests[0][1] == b"abc"
        async with inside_world(LOOK, handler=refuse) as w:
            async with w.guest() as (reader, writer):
                writer.write(expect)
                assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        async with inside_world(Rule(HOST, methods=("GET",))) as w:
            assert (await w.ask(expect)).startswith(b"HTTP/1.1 403 ")

    in_loop(scenario())


ANSWERS = {
    "/hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    "/trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1\r\na\r\n0\r\nX-Sum: 1\r\nSet-Cookie: evil\r\n\r\n",
    "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
    "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
    "/alt": b'HTTP/1.1 200 OK\r\nAlt-Svc: h3=":443"\r\nContent-Length: 1\r\n\r\nb',
    "/close": b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nuntil the end",
}


def test_answers_of_every_framing() -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE, replies=ANSWERS) as w:
            asked = [get(path, method="HEAD" if path == "/head" else "GET") for path in ANSWERS]
            answer = await w.ask(b"".join(asked) + get("/last", extra=CLOSE))
        parts = answer.split(b"HTTP/1.1 ")[1:]
        assert [part[:3] for part in parts] == [b"103", b"200", b"200", b"204", b"304", b"200", b"200", b"200", b"200"]
        assert b"Link: </a>" in parts[0] and parts[1].endswith(b"\r\n\r\na")
        assert parts[2].endswith(b"\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert parts[3].endswith(b"\r\n\r\n") and b"Content-Length: 99\r\n" in parts[5]
        assert b"lt-Svc" not in parts[6] and parts[6].endswith(b"b")
        assert parts[7].endswith(b"\r\n\r\nd\r\nuntil the end\r\n0\r\n\r\n")

    in_loop(scenario())


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "part",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\npart", b"HTTP/1.1 200 OK\r\n\r\npart"],
    ids=["length", "close"],
)
def test_an_answer_that_was_cut_looks_cut(part: bytes, version: str) -> None:
    async def cut(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(part)
        await writer.drain()
        transport = writer.transport.get_extra_info("socket")
        assert transport is not None
        # The connection below ends, and TLS says nothing.
        under = writer.transport._ssl_protocol._transport  # type: ignore[attr-defined]
        under.write_eof()
        await reader.read(-1)

    async def scenario() -> None:
        async with inside_world(LOOK, handler=cut) as w:
            request = f"GET / HTTP/{version}\r\nHost: {HOST}\r\n\r\n".encode()
            got, whole = await asyncio.to_thread(raw_guest, w, request)
            (line,) = await w.quiet()
        assert b"part" in got and not got.endswith(b"0\r\n\r\n") and not whole
        assert "broke off" in line["reason"]

    in_loop(scenario())


def test_a_whole_answer_ends_with_a_close_notify() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK) as w:
            got, whole = await asyncio.to_thread(raw_guest, w, get("/x", extra=CLOSE))
            assert got.endswith(b"/x") and whole
            got, whole = await asyncio.to_thread(raw_guest, w, f"GET /x HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
            assert got.endswith(b"/x") and whole

    in_loop(scenario())


def test_a_guest_may_end_its_side_and_go_on_reading() -> None:
    import socket

    def half_close(path: str) -> bytes:
        context = client_context(guest_authority().certificate)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
        got = b""
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(path)
            done = False
            while True:
                try:
                    if not done:
                        tls.do_handshake()
                        tls.write(get("/late"))
                        with pytest.raises(ssl.SSLWantReadError):
                            tls.unwrap()  # our close_notify is out, the other side's has not come
                        done = True
                    while piece := tls.read(65536):
                        got += piece
                    return got
                except ssl.SSLWantReadError:
                    pass
                except (ssl.SSLZeroReturnError, ssl.SSLError):
                    return got
                if outgoing.pending:
                    raw.sendall(outgoing.read())
                if not (data := raw.recv(65536)):
                    return got
                incoming.write(data)

    async def scenario() -> None:
        async with inside_world(LOOK) as w:
            got = await asyncio.to_thread(half_close, str(w.plain.gateway.sockets[443]))
            assert got.endswith(b"/late"), got
            await until(lambda: w.plain.gateway.connections == 0)
        assert w.recorder.everything == get("/late")

    in_loop(scenario())


def test_a_kept_server_that_closes_is_dialled_again() -> None:
    async def scenario() -> None:
        async with inside_world(
            LOOK, replies={"/1": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1"}
        ) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/1") + get("/2", extra=CLOSE))
                assert (await reader.read(-1)).endswith(b"/2")
        assert len(w.recorder.received) == 2

    in_loop(scenario())


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


SIZE = 100 << 20


@pytest.mark.timeout(120)  # on a busy machine
def test_large_bodies_both_ways_in_flat_memory() -> None:
    async def both(reader: Reader, writer: Writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            got, digest = 0, hashlib.sha256()
            while got < SIZE:
                data = await reader.read(1 << 16)
                got += len(data)
                digest.update(data)
            text = digest.hexdigest().encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            for _ in range(SIZE // len(BLOCK)):
                writer.write(BLOCK)
                await writer.drain()
        await reader.read(-1)

    async def scenario() -> None:
        wanted = hashlib.sha256()
        for _ in range(SIZE // len(BLOCK)):
            wanted.update(BLOCK)
        async with inside_world(SECRET_RULE, handler=both, deadline_s=4 * DEADLINE_S) as w:
            before, peak = resident_bytes(), 0
            async with w.guest() as (reader, writer):
                writer.write(get("/up", extra=f"Content-Length: {SIZE}\r\n", method="POST"))
                for _ in range(SIZE // len(BLOCK)):
                    writer.write(BLOCK)
                    await writer.drain()
                    peak = max(peak, resident_bytes())
                assert (await reader.readuntil(wanted.hexdigest().encode())).startswith(b"HTTP/1.1 200 ")
            async with w.guest() as (reader, writer):
                writer.write(get("/down"))
                await reader.readuntil(b"\r\n\r\n")
                digest, got = hashlib.sha256(), 0
                while got < SIZE:
                    data = await reader.read(1 << 16)
                    got += len(data)
                    digest.update(data)
                    peak = max(peak, resident_bytes())
            assert digest.digest() == wanted.digest()
            assert peak - before < 24 << 20

    in_loop(scenario())


def test_a_large_upload_to_a_refused_path_is_told_at_once() -> None:
    async def scenario() -> None:
        async with inside_world(Rule(HOST, paths=("/ok",)), limits=Limits(linger_s=0.3)) as w:
            await w.ask(get("/ok", extra=CLOSE))
            async with w.guest() as (reader, writer):
                before, started = resident_bytes(), time.monotonic()
                writer.write(get("/no", extra=f"Content-Length: {SIZE}\r\n", method="POST"))
                assert (await reader.readline()) == b"HTTP/1.1 403 Forbidden\r\n"
                assert time.monotonic() - started < 0.5
                try:
                    for _ in range(SIZE // len(BLOCK)):
                        writer.write(BLOCK)
                        await writer.drain()
                except OSError:
                    pass
                assert resident_bytes() - before < 10 << 20
        assert len(w.recorder.heads) == 1

    in_loop(scenario())


def test_a_reader_that_stops_stops_the_server() -> None:
    async def scenario() -> None:
        pushed, stalled = 0, asyncio.Event()

        async def flood(reader: Reader, writer: Writer) -> None:
            nonlocal pushed
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(BLOCK)
                pushed += len(BLOCK)
                try:
                    async with asyncio.timeout(0.5):
                        await writer.drain()
                except TimeoutError:
                    stalled.set()
                    return

        async with inside_world(LOOK, handler=flood) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/"))
                await reader.readuntil(b"\r\n\r\n")
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                await stalled.wait()
        assert pushed < 32 << 20

    in_loop(scenario())


def test_many_connections_some_of_them_aborted_leave_nothing() -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE) as w:
            await w.ask(get("/", extra=CLOSE))
            await w.quiet()
            descriptors = len(list(Path("/proc/self/fd").iterdir()))

            async def one(number: int) -> None:
                async with w.guest() as (reader, writer):
                    writer.write(get(f"/{number}", extra=CLOSE))
                    if number % 3:
                        assert (await reader.read(-1)).endswith(f"/{number}".encode())
                    else:
                        writer.transport.abort()

            for start in range(0, 200, 50):
                await asyncio.gather(*(one(number) for number in range(start, start + 50)))
            await w.quiet()
            await until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors)

    in_loop(scenario())
