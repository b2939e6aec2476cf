"""Values in answers: packed, encoded, in pieces, on HTTP/1 and HTTP/2: what the guest got, and what was journalled."""

from __future__ import annotations

import asyncio
import base64
import gzip
import zlib
from collections.abc import Callable

import pytest
from gateway_world import in_loop
from h2_world import Connection, Headers, Server, h2_guest
from inside_world import CLOSE, HOST, SECRET_RULE, VALUE, get, inside_world, raw_guest, server_authority

from engine.gateway.answers import AnswerRefused, Incoming
from engine.gateway.forms import forms_of

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
CLEAN = b"nothing of note, " * 5000
LEAK = CLEAN + VALUE.encode() + CLEAN


def deflate(data: bytes) -> bytes:
    return zlib.compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": deflate}


def packed(encoding: str, body: bytes, extra: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


@pytest.mark.parametrize("encoding", PACKERS)
def test_a_packed_answer_without_a_value_goes_on_as_it_came(encoding: str) -> None:
    body = PACKERS[encoding](CLEAN)

    async def scenario() -> None:
        async with inside_world(SECRET_RULE, replies={"/": packed(encoding, body)}) as w:
            answer = await w.ask(get("/", extra=CLOSE))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(body)
        assert line["verdict"] == "allowed"

    in_loop(scenario())


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize("pieces", [1, 999])
def test_a_packed_answer_with_a_value_does_not_arrive(encoding: str, pieces: int) -> None:
    body = PACKERS[encoding](LEAK)
    step = len(body) // pieces + 1

    async def send(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(packed(encoding, b"")[:-4].replace(b"Content-Length: 0", b"Content-Length: %d" % len(body)))
        writer.write(b"\r\n\r\n")
        for start in range(0, len(body), step):
            writer.write(body[start : start + step])
            await writer.drain()
        await reader.read(1)

    async def scenario() -> None:
        async with inside_world(SECRET_RULE, handler=send) as w:
            got, whole = await asyncio.to_thread(raw_guest, w, get("/", extra=CLOSE))
            (line,) = await w.quiet()
        assert line["verdict"] == "refused" and "holds a secret's value, packed as" in line["reason"]
        assert not whole
        received = got.partition(b"\r\n\r\n")[2]
        unpacked = zlib.decompressobj(15 if encoding == "deflate" else 31).decompress(received)
        assert len(received) < len(body) and VALUE.encode() not in unpacked
        assert VALUE[:8].encode() not in unpacked

    in_loop(scenario())


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "aws-chunked"])
def test_an_answer_that_nobody_can_look_into_is_refused(encoding: str) -> None:
    async def scenario() -> None:
        replies = {"/": packed(encoding, b"what this is nobody knows")}
        async with inside_world(SECRET_RULE, replies=replies) as w:
            answer = await w.ask(get("/", extra=CLOSE))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 502 ") and b"packed its answer" in answer
        assert b"nobody knows" not in answer
        assert (line["verdict"], line["how"]) == ("refused", "intercept") and encoding in line["reason"]

    in_loop(scenario())


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 9\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Encoding: br\r\n\r\n"),
    ],
)
def test_an_answer_without_a_body_is_not_packed_whatever_it_says(method: str, reply: bytes) -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE, replies={"/": reply}) as w:
            answer = await w.ask(get("/", extra=CLOSE, method=method))
        assert answer.startswith(reply[:12])

    in_loop(scenario())


FORMS = {
    "basic": base64.b64encode(f"x-access-token:{VALUE}".encode()),
    "within": base64.urlsafe_b64encode(b'{"key":"' + VALUE.encode() + b'"}'),
    "hexadecimal": VALUE.encode().hex().upper().encode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_value_that_was_encoded_is_overwritten_also_over_the_borders_of_chunks(form: bytes) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b"<" + form + b">")
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    name = form.replace(b"=", b"")
    whole = b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nX-%s: 1\r\nContent-Length: %d\r\n\r\n%s" % (form, name, len(form), form)

    async def scenario() -> None:
        async with inside_world(SECRET_RULE, replies={"/chunked": chunked, "/whole": whole}) as w:
            answer = await w.ask(get("/chunked") + get("/whole", extra=CLOSE))
            lines = await w.quiet()
        assert form not in answer and form not in answer.replace(b"\r\n1\r\n", b"")
        assert answer.count(b"********") >= 4 and name not in answer
        assert all("overwritten" in line["reason"] for line in lines)

    # What of its encoding depends on what is around it stays, and says nothing.
    assert any(each in form for each in forms_of(VALUE.encode()))
    in_loop(scenario())


async def _answer(server: Server, connection: Connection, stream: int) -> None:
    path = dict(connection.requests[stream].headers)[":path"]
    extra: Headers = []
    body = LEAK
    if path != "/plain":
        extra, body = [("content-encoding", path[1:])], PACKERS.get(path[1:], deflate)(LEAK)
    connection.respond(stream, end=False, extra=extra)
    await connection.send(stream, body)


def test_the_same_on_http_2() -> None:
    async def scenario() -> None:
        server = Server(_answer)
        context = server_authority().context(HOST, "h2")
        async with inside_world(SECRET_RULE, handler=server.serve, server=context) as w:
            async with h2_guest(w) as client:
                plain = await client.get("/plain")
                gzipped = await client.get("/gzip")
                brotli = await client.get("/br")
                again = await client.get("/plain")  # the connection goes on
            lines = await w.quiet()
        stars = b"*" * len(VALUE)
        assert bytes(plain.body) == bytes(again.body) == CLEAN + stars + CLEAN
        assert gzipped.reset is not None or gzipped.status == "502"
        assert VALUE.encode() not in zlib.decompressobj(31).decompress(gzipped.body) if gzipped.reset else True
        assert brotli.status == "502" and b"packed its answer" in brotli.body
        assert [line["verdict"] for line in lines] == ["allowed", "refused", "refused", "allowed"]

    in_loop(scenario())


def test_events_of_a_packed_stream_go_on_as_they_come() -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def events(reader: Reader, writer: Writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n")
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
            packer = zlib.compressobj(wbits=31)
            for number in range(5):
                await go_on.wait()
                go_on.clear()
                data = packer.compress(b"data: %d\n\n" % number) + packer.flush(zlib.Z_SYNC_FLUSH)
                writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                await writer.drain()
            writer.write(b"0\r\n\r\n")

        async with inside_world(SECRET_RULE, handler=events) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/events"))
                await reader.readuntil(b"\r\n\r\n")
                unpacker = zlib.decompressobj(31)
                for number in range(5):  # the next is sent only when this one is here
                    go_on.set()
                    size = int(await reader.readuntil(b"\r\n"), 16)
                    assert unpacker.decompress(await reader.readexactly(size)) == b"data: %d\n\n" % number
                    await reader.readexactly(2)

    in_loop(scenario())


def bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()


@pytest.mark.parametrize(
    "body", [b"no gzip at all", gzip.compress(b"x") + b"and more", bomb()], ids=["none", "more behind it", "too much"]
)
def test_what_does_not_unpack_or_unpacks_to_too_much_is_refused(body: bytes) -> None:
    incoming = Incoming([VALUE.encode()], HOST)
    incoming.begin(200, [(b"Content-Encoding", b"gzip")])
    with pytest.raises(AnswerRefused):
        incoming.feed(body)


def test_gzip_of_several_members_with_padding() -> None:
    body = gzip.compress(b"one") + gzip.compress(b"two") + bytes(512)
    incoming = Incoming([VALUE.encode()], HOST)
    incoming.begin(200, [(b"content-encoding", b"GZIP")])
    assert b"".join(incoming.feed(body[i : i + 1]) for i in range(len(body))) + incoming.finish() == body
    for split in range(0, len(VALUE), 3):
        incoming = Incoming([VALUE.encode()], HOST)
        incoming.begin(200, [(b"content-encoding", b"gzip")])
        with pytest.raises(AnswerRefused, match="holds a secret's value"):
            incoming.feed(gzip.compress(VALUE[:split].encode()) + gzip.compress(VALUE[split:].encode()))
