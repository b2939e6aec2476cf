"""Inside TLS, as it comes: streams, WebSockets, large bodies, ends."""

from __future__ import annotations

import asyncio
import base64
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
    VALUE,
    client_context,
    fields_of,
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


UPGRADE = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
NONCE = "dGhlIHNhbXBsZSBub25jZQ=="
ASK_WEBSOCKET = UPGRADE + f"Sec-WebSocket-Key: {NONCE}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"


def accept_for(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


def frame(payload: bytes, first: int = 0x82) -> bytes:
    """As servers send them; the server of these tests sends what it gets."""
    size = len(payload)
    if size < 126:
        return bytes([first, size]) + payload
    length = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    return bytes([first]) + length + payload


class WebSocketServer:
    def __init__(self, accept: str | None = None, early: bytes = b"") -> None:
        self.accept, self.early = accept, early
        self.head = b""
        self.got = bytearray()

    async def serve(self, reader: Reader, writer: Writer) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        accept = self.accept or accept_for(fields_of(self.head)["sec-websocket-key"][0])
        head = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode() + self.early)
        while data := await reader.read(1 << 16):
            self.got += data
            writer.write(data)
            await writer.drain()


def test_a_websocket_with_the_credential_on_its_upgrade() -> None:
    async def scenario() -> None:
        server = WebSocketServer(early=frame(b"early"))
        async with inside_world(SECRET_RULE, handler=server.serve) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/ws", extra=ASK_WEBSOCKET) + frame(b"at once"))
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 101 ") and fields_of(head)["sec-websocket-accept"] == [
                    accept_for(NONCE)
                ]
                assert await reader.readexactly(16) == frame(b"early") + frame(b"at once")
                big = frame(os.urandom(5 << 20))

                async def send() -> None:
                    writer.write(big)
                    await writer.drain()

                sending = asyncio.create_task(send())
                assert await reader.readexactly(len(big)) == big
                await sending
                value, stars = VALUE.encode(), b"*" * len(VALUE)
                writer.write(frame(b"<" + value + b">"))
                assert await reader.readexactly(len(value) + 4) == frame(b"<" + stars + b">")
                # Also where two frames share it, with a ping between them, and in the reason of an end.
                for first, second in ((value[:9], value[9:]), (value[:-1], value[-1:])):
                    cut = frame(b"<" + first, 0x01) + frame(value, 0x89) + frame(second + b">", 0x80)
                    writer.write(cut)
                    got = await reader.readexactly(len(cut))
                    whole = frame(b"<" + stars[: len(first)], 0x01) + frame(stars, 0x89)
                    assert got == whole + frame(stars[len(first) :] + b">", 0x80)
                # A message that ends within it holds up neither a ping nor the next message, where the rest may be.
                writer.write(frame(b"<" + value[:10]) + frame(b"ping", 0x89))
                assert await reader.readexactly(13 + 6) == frame(b"<" + stars[:10]) + frame(b"ping", 0x89)
                writer.write(frame(value[10:] + b">"))
                assert await reader.readexactly(len(value) - 10 + 3) == frame(stars[10:] + b">")
                writer.write(frame(b"\x03\xf0" + value, 0x88))
                assert await reader.readexactly(len(value) + 4) == frame(b"\x03\xf0" + stars, 0x88)
            (line,) = await w.quiet()
        fields = fields_of(server.head)
        assert fields["authorization"] == [f"Bearer {VALUE}"] and "sec-websocket-extensions" not in fields
        assert fields["connection"] == ["Upgrade"] and fields["upgrade"] == ["websocket"]
        assert line["verdict"] == "allowed" and line["bytes_in"] > len(big) and line["path"] == "/ws"

    in_loop(scenario())


@pytest.mark.parametrize(
    "bad",
    [b"\xc1\x05abcde", b"\x81\x85maskabcde", b"\x89\x7e\x00\x7e" + b"x" * 126],
    ids=["packed", "masked", "a long ping"],
)
def test_a_websocket_that_cannot_be_looked_into_is_cut(bad: bytes) -> None:
    async def scenario() -> None:
        server = WebSocketServer()
        async with inside_world(SECRET_RULE, handler=server.serve) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/ws", extra=ASK_WEBSOCKET) + bad)
                await reader.readuntil(b"\r\n\r\n")
                with pytest.raises(OSError):
                    raise OSError(await reader.read(-1) or "cut")
            (line,) = await w.quiet()
        assert line["verdict"] == "refused" and "a WebSocket " in line["reason"] and " frame " in line["reason"]

    in_loop(scenario())


def test_a_websocket_with_extensions_that_nobody_asked_for_is_refused() -> None:
    async def scenario() -> None:
        accept = accept_for(NONCE) + "\r\nSec-WebSocket-Extensions: permessage-deflate"
        async with inside_world(SECRET_RULE, handler=WebSocketServer(accept).serve) as w:
            answer = await w.ask(get("/ws", extra=ASK_WEBSOCKET))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 502 ") and line["verdict"] == "refused"

    in_loop(scenario())


def test_a_websocket_whose_accept_is_wrong_is_no_tunnel() -> None:
    async def scenario() -> None:
        server = WebSocketServer(accept=accept_for("another"))
        async with inside_world(LOOK, handler=server.serve) as w:
            answer = await w.ask(get("/ws", extra=ASK_WEBSOCKET) + b"GET /evil")
            assert answer.startswith(b"HTTP/1.1 502 ") and b"switched protocols" in answer
            await w.quiet()
        assert server.got == b""

    in_loop(scenario())


def test_a_101_that_nobody_asked_for_is_no_tunnel() -> None:
    async def scenario() -> None:
        server = WebSocketServer(accept="x")
        async with inside_world(LOOK, handler=server.serve) as w:
            answer = await w.ask(get("/ws") + b"GET /evil")
            assert answer.startswith(b"HTTP/1.1 502 ")
            await w.quiet()
        assert server.got == b""

    in_loop(scenario())


def test_an_upgrade_that_the_server_declines_stays_http() -> None:
    async def scenario() -> None:
        replies = {"/ws": b"HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno"}
        async with inside_world(LOOK, replies=replies) as w:
            answer = await w.ask(get("/ws", extra=ASK_WEBSOCKET) + get("/next", extra=CLOSE))
        assert answer.startswith(b"HTTP/1.1 426 ") and answer.endswith(b"/next")
        assert len(w.recorder.heads) == 2

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
