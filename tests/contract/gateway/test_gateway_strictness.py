"""One name in four places, heads and frames that two readers read differently: what the server got of them."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import Any

import h2.events
import h2.exceptions
import hpack
import pytest
from gateway_world import in_loop
from h2_world import Server, h2_guest, head
from inside_world import CLOSE, HOST, SECRET_RULE, VALUE, get, inside_world
from memory_streams import MemoryStream
from test_gateway_http import BAD_REQUESTS, HIDDEN

from engine.gateway.h2side import Side
from engine.gateway.rules import Rule

OTHER = Rule("other.example.com", intercept=True)

# One name: SNI, Host, :authority and the absolute form

SAME = (HOST, "API.Example.COM", f"{HOST}.", f"{HOST}:443", "Api.Example.com.:443")
ANOTHER = ("other.example.com", f"{HOST}:444", f"{HOST}.evil.example", f"evil.{HOST}", "other.example.com:443")
NO_NAME = (f"user@{HOST}", "203.0.113.10", "[2001:db8::1]", "", f"{HOST},{HOST}", "0x7f.1")


def test_every_stream_s_authority_is_the_connection_s_host() -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(SECRET_RULE, OTHER, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                asked: list[tuple[int, str]] = []
                for good, bad in itertools.zip_longest(SAME, (*ANOTHER, *NO_NAME), fillvalue=HOST):
                    asked.append((client.ask(head("/good", authority=good)), "200"))
                    asked.append((client.ask([*head("/good", authority=good), ("host", good)]), "200"))
                    if bad == HOST:
                        continue
                    wanted = "421" if bad in ANOTHER else "4"
                    asked.append((client.ask(head("/bad", authority=bad)), wanted))
                without = [field for field in head("/good") if field[0] != ":authority"]
                asked.append((client.ask([*without, ("host", HOST)]), "200"))
                for number, status in asked:
                    reply = await client.reply(number)
                    assert reply.status.startswith(status), (reply.status, status)
            await w.quiet()
        assert {request.get(":path")[0] for request in server.requests} == {"/good"}
        assert {tuple(request.get(":authority")) for request in server.requests} == {(HOST,)}
        assert not any(request.get("host") for request in server.requests)
        assert len(server.requests) == sum(status == "200" for _, status in asked)
        assert w.plain.resolved == [HOST]

    in_loop(scenario())


def test_host_and_authority_must_be_the_same_name_even_if_both_are_allowed() -> None:
    async def scenario() -> None:
        for pair in ((HOST, "other.example.com"), ("other.example.com", HOST)):
            server = Server()
            async with inside_world(SECRET_RULE, OTHER, handler=server.serve, alpn="h2") as w:
                async with h2_guest(w) as client:
                    number = client.ask([*head("/bad", authority=pair[0]), ("host", pair[1])])
                    with suppress(EOFError):
                        assert (await client.reply(number)).status in ("", "400", "421")
                await w.quiet()
            assert server.requests == []

    in_loop(scenario())


def test_a_request_without_any_name_is_refused() -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                number = client.ask([field for field in head("/bad") if field[0] != ":authority"])
                with suppress(EOFError):
                    assert (await client.reply(number)).status in ("", "400")
            await w.quiet()
        assert server.requests == []

    in_loop(scenario())


@pytest.mark.parametrize("name", (*SAME, *ANOTHER, *NO_NAME))
@pytest.mark.parametrize("form", ["host", "absolute", "absolute and the right host"])
def test_host_and_absolute_form_are_the_connection_s_host(name: str, form: str) -> None:
    async def scenario() -> None:
        target = "/x" if form == "host" else f"https://{name}/x"
        host = HOST if form == "absolute and the right host" else name
        async with inside_world(SECRET_RULE, OTHER) as w:
            answer = await w.ask(get("/before") + get(target, host=host, extra=CLOSE))
            await w.quiet()
        before, after = answer.partition(b"/before")[::2]
        assert before.startswith(b"HTTP/1.1 200 ")
        if name in SAME:
            assert after.startswith(b"HTTP/1.1 200 ") and after.endswith(b"/x")
            extra = f"authorization: Bearer {VALUE}\r\naccept-encoding: identity\r\n"
            assert w.recorder.everything.lower() == (get("/before", extra) + get("/x", extra)).lower()
        else:
            assert after[:10] == b"HTTP/1.1 4"
            assert len(w.recorder.heads) == 1 and b"/x" not in w.recorder.everything
        assert w.plain.resolved == [HOST]

    in_loop(scenario())


def test_a_name_in_a_request_is_never_dialled() -> None:
    """SNI of an allowed host, requests for another allowed one: neither resolved nor connected to."""

    async def scenario() -> None:
        async with inside_world(SECRET_RULE, OTHER) as w:
            for host in ANOTHER:
                answer = await w.ask(get("/x", host=host))
                assert answer.startswith(b"HTTP/1.1 421 ")
        assert set(w.plain.resolved) == {HOST} and w.recorder.everything == b""

    in_loop(scenario())


# HTTP/1: what plain requests must not be, those inside TLS must not be, either

SAME_IN_TLS = {name: text for name, text in BAD_REQUESTS.items() if name not in ("https target", "websocket")}


@pytest.mark.parametrize("text", SAME_IN_TLS.values(), ids=SAME_IN_TLS)
@pytest.mark.parametrize("position", ["first", "second"])
def test_a_request_that_can_be_read_two_ways_is_refused_inside_tls(text: str, position: str) -> None:
    text = text.replace(f"{HOST}:80 ", HOST)

    async def scenario() -> None:
        async with inside_world(SECRET_RULE, Rule("evil.example.com", deny=True)) as w:
            before = get("/before") if position == "second" else b""
            answer = await w.ask(before + text.encode("latin-1"))
            lines = await w.quiet()
        if before:
            assert answer.startswith(b"HTTP/1.1 200 ")
            answer = answer.partition(b"/before")[2]
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 50")) and VALUE.encode() not in answer
        assert lines[-1]["verdict"] == "refused"
        assert len(w.recorder.heads) == bool(before) and b"evil" not in w.recorder.everything

    in_loop(scenario())


PIPELINED = {
    "another path": (get("/no"), b"403"),
    "another method": (get("/ok/x", method="DELETE"), b"403"),
    "a method in a header": (get("/ok/x", extra="X-HTTP-Method: DELETE\r\n"), b"403"),
    "another host": (get("/ok/x", host="evil.example.com"), b"421"),
    "a dot segment": (get("/ok/%2e%2e/no"), b"400"),
    "a credential": (get("/ok/x", extra="Authorization: Bearer stolen\r\n"), b"403"),
}


@pytest.mark.parametrize(("second", "status"), PIPELINED.values(), ids=PIPELINED)
def test_a_pipelined_request_is_judged_by_itself(second: bytes, status: bytes) -> None:
    rule = Rule(HOST, methods=("GET", "POST"), paths=("/ok/**",), injections=SECRET_RULE.injections)

    async def scenario() -> None:
        async with inside_world(rule) as w:
            body = get("/ok/1", extra="Content-Length: 3\r\n", method="POST") + b"abc"
            answer = await w.ask(body + second + get("/ok/3"))
            await w.quiet()
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.partition(b"/ok/1")[2][9:12] == status
        assert [head.split()[1] for head in w.recorder.heads] == [b"/ok/1"]
        assert w.recorder.requests[0][1] == b"abc" and b"evil" not in w.recorder.everything

    in_loop(scenario())


# HTTP/2: frames


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(*fields: tuple[str, str]) -> bytes:
    return hpack.Encoder().encode(fields)


DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
WHOLE = block(*head("/evil"))
POST = block(*head("/evil", "POST"), ("content-length", "3"))
FRAMES: dict[str, bytes] = {
    "data on stream 0": frame(DATA, 0, 0, b"x"),
    "headers on stream 0": frame(HEADERS, 5, 0, WHOLE),
    "headers on an even stream": frame(HEADERS, 5, 2, WHOLE),
    "data on an idle stream": frame(DATA, 1, 7, b"x"),
    "a continuation of nothing": frame(CONTINUATION, 4, 1, WHOLE),
    "another frame within a head": frame(HEADERS, 1, 1, WHOLE[:5]) + frame(PING, 0, 0, bytes(8)),
    "a continuation of another stream": frame(HEADERS, 1, 1, WHOLE[:5]) + frame(CONTINUATION, 4, 3, WHOLE[5:]),
    "a push of the guest": frame(PUSH, 4, 1, bytes([0, 0, 0, 2]) + WHOLE),
    "a window of zero": frame(WINDOW, 0, 0, bytes(4)),
    "a window too large": frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff") * 3,
    "an odd ping": frame(PING, 0, 0, b"x"),
    "odd settings": frame(SETTINGS, 0, 0, b"x"),
    "settings with a frame size too small": frame(SETTINGS, 0, 0, b"\0\x05\0\0\0\1"),
    "a broken header block": frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff"),
    "a frame too large": b"\xff\xff\xff" + bytes([HEADERS, 5, 0, 0, 0, 1]),
    "padding longer than the frame": frame(HEADERS, 5 | 8, 1, b"\xff" + WHOLE),
    "a stream that depends on itself": frame(HEADERS, 5 | 32, 1, bytes([0, 0, 0, 1, 16]) + WHOLE),
    "a body shorter than its length": frame(HEADERS, 4, 1, POST) + frame(DATA, 1, 1, b"x"),
    "a body longer than its length": frame(HEADERS, 4, 1, POST) + frame(DATA, 1, 1, b"xxxx"),
    "two lengths": frame(HEADERS, 4, 1, block(*head("/evil", "POST"), *[("content-length", n) for n in "34"])),
    "a length that is none": frame(HEADERS, 4, 1, block(*head("/evil", "POST"), ("content-length", "+3"))),
    "pseudo-headers in trailers": frame(HEADERS, 4, 1, block(*head("/up", "POST")))
    + frame(HEADERS, 5, 1, block((":path", "/evil"))),
    "no http/2": b"GET /evil HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
}
PASSED_AT_FIRST = ("a body", "pseudo-headers")


@pytest.mark.parametrize("data", FRAMES.values(), ids=FRAMES)
def test_frames_that_are_none_end_the_connection(data: bytes, request: pytest.FixtureRequest) -> None:
    """No request arrives; of a body that is not what it was said to be, no end arrives."""

    async def scenario() -> None:
        server = Server()
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                client.writer.write(data)
                with pytest.raises((EOFError, OSError)):
                    await client.until(lambda: any(isinstance(each, h2.events.StreamReset) for each in client.events))
                    raise EOFError
            await w.quiet()
            async with h2_guest(w) as client:  # others go on
                assert (await client.get("/well")).status == "200"
        got = [each for each in server.requests if each.get(":path") != ["/well"]]
        assert not any(each.ended for each in got)
        if not request.node.callspec.id.startswith(PASSED_AT_FIRST):
            assert got == []

    in_loop(scenario())


def flood(kind: str) -> Any:
    if kind == "continuations":
        yield frame(HEADERS, 1, 1, WHOLE[:5])
        while True:
            yield frame(CONTINUATION, 0, 1, b"") * 100
    if kind == "a list of headers that grows by its table":
        encoder = hpack.Encoder()
        first = encoder.encode([*head("/evil"), ("x", "a" * 4000)])
        yield frame(HEADERS, 5, 1, first + encoder.encode([("x", "a" * 4000)]) * 5000)
    if kind == "settings":
        while True:
            yield frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\1") * 100
    if kind == "a header block without an end":
        yield frame(HEADERS, 1, 1, WHOLE) + frame(CONTINUATION, 0, 1, bytes(60000)) * 2
    if kind == "resets":
        for number in range(1, 9999, 2):
            yield frame(HEADERS, 5, number, block(*head("/ok"))) + frame(RST, 0, number, bytes(4))
    if kind == "windows":
        while True:
            yield frame(WINDOW, 0, 0, b"\0\0\0\1") * 1000


FLOODS = ("continuations", "a header block without an end", "a list of headers that grows by its table", "resets")


@pytest.mark.parametrize("kind", [*FLOODS, "settings", "windows"])
def test_floods_end_and_nobody_else_suffers(kind: str) -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as other, h2_guest(w) as client:

                async def push() -> None:
                    for piece in itertools.islice(flood(kind), {"windows": 30, "settings": 50}.get(kind, 5000)):
                        client.writer.write(piece)
                        await client.writer.drain()

                pushing = asyncio.ensure_future(push())
                for _ in range(5):
                    assert (await other.get("/well")).status == "200"
                await asyncio.gather(pushing, return_exceptions=True)
                if kind in FLOODS:  # the others cost little, and are answered
                    with pytest.raises((EOFError, OSError)):
                        await client.until(lambda: False)
                assert (await other.get("/well")).status == "200"
            await w.quiet()
        assert not any(request.get(":path") == ["/evil"] for request in server.requests)

    in_loop(scenario())


def test_a_request_hidden_in_a_body_stays_in_the_body() -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                hidden = HIDDEN.encode() + frame(HEADERS, 5, 3, WHOLE)
                assert (await client.reply(client.ask(head("/up", "POST"), body=hidden))).status == "200"
        (request,) = server.requests
        assert bytes(request.body) == hidden

    in_loop(scenario())


def test_windows_that_open_again_and_again_are_noted_once() -> None:
    """A guest that sends many of them, with many streams waiting, would make us look at each stream each time."""

    async def scenario() -> None:
        incoming = MemoryStream(alpn="h2")
        side = Side(incoming.tls, client=False)
        for stream in (1, 3, 5):
            side.put(stream, data=b"x")
        for _ in range(1000):
            side.open_again(None)
            side.open_again(3)
        assert list(side._ready) == [1, 3, 5]

    in_loop(scenario())


def test_a_header_block_is_not_held_beyond_its_limit() -> None:
    """h2 takes 64 frames for one, and counts no bytes."""
    side = Side(MemoryStream(alpn="h2").tls, client=False)
    start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(HEADERS, 1, 1, bytes(40000))
    assert [len(run) for _, run in side.frames(start)] == [24, 40009]
    with pytest.raises(h2.exceptions.ProtocolError, match="a header block that is too long"):
        list(side.frames(frame(CONTINUATION, 0, 1, bytes(40000))))
    assert side.h2.data_to_send()[-4:] == (6).to_bytes(4, "big")  # GOAWAY: FRAME_SIZE_ERROR
