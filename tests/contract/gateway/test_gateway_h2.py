"""HTTP/2 inside TLS: what the server got, stream by stream."""

from __future__ import annotations

import os
import time

import h2.events
import pytest
from gateway_world import in_loop
from h2_world import Connection, Headers, Server, h2_guest, head
from inside_world import HELD, HOST, LOOK, SECRET_RULE, VALUE, get, inside_world, server_authority

from engine.gateway.rules import Rule


def test_a_request_goes_through_with_the_credential_and_is_journalled() -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                rivals = [("x-api-key", HELD), ("authorization", f"Bearer {HELD}"), ("x_api_key", HELD)]
                reply = await client.get("/a?token=abc", *rivals, ("x-mine", "yes"), ("accept-encoding", "br"))
                assert (reply.status, bytes(reply.body)) == ("200", b"/a?token=abc")
            (line,) = await w.quiet()
        (request,) = server.requests
        assert request.headers == [
            *head("/a?token=abc"),
            ("x-mine", "yes"),
            ("authorization", f"Bearer {VALUE}"),
            ("accept-encoding", "identity"),
        ]
        assert (line["verdict"], line["how"], line["method"], line["path"]) == ("allowed", "intercept", "GET", "/a")
        assert line["bytes_in"] > 12 and line["bytes_out"] > 50 and VALUE not in repr(line)
        received = [event for event in server.connections[0].events if isinstance(event, h2.events.RequestReceived)]
        indexable = {str(each[0]): each.indexable for each in received[0].headers}  # type: ignore[union-attr]
        assert indexable["authorization"] is False

    in_loop(scenario())


def test_each_stream_is_judged_and_the_others_go_on() -> None:
    async def scenario() -> None:
        server = Server()
        rule = Rule(HOST, methods=("GET",), paths=("/ok/**",), origin="endpoints[1]")
        async with inside_world(rule, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                numbers = [
                    client.ask(head("/ok/%61")),
                    client.ask(head("/no")),
                    client.ask(head("/ok/x", "DELETE")),
                    client.ask([*head("/ok/x"), ("x-http-method-override", "DELETE")]),
                    client.ask(head("/ok/../no")),
                    client.ask(head("/ok/b")),
                ]
                replies = [await client.reply(number) for number in numbers]
            lines = await w.quiet()
        assert [reply.status for reply in replies] == ["200", "403", "403", "403", "400", "200"]
        assert b"endpoints[1] does not allow GET api.example.com:443/no" in replies[1].body
        assert [request.get(":path") for request in server.requests] == [["/ok/a"], ["/ok/b"]]
        assert sorted(line["verdict"] for line in lines) == ["allowed"] * 2 + ["refused"] * 4

    in_loop(scenario())


def changed(**fields: str) -> Headers:
    return [(name, fields.get(name[1:], value)) for name, value in head()]


BAD: dict[str, tuple[Headers, str]] = {
    "another authority": (changed(authority="evil.example.com"), "421"),
    "another port": (changed(authority=f"{HOST}:444"), "421"),
    "user": (changed(authority=f"a@{HOST}"), "400"),
    "another host": ([*head(), ("host", "evil.example.com")], "400 421 reset"),
    "scheme": (changed(scheme="http"), "400"),
    "method with a space": (changed(method="GET /evil"), "400 reset"),
    "connect": ([(":method", "CONNECT"), (":authority", HOST)], "405 reset"),
    "websocket": ([*changed(method="CONNECT"), (":protocol", "websocket")], "501 reset"),
    "fragment": (changed(path="/a#b"), "400"),
    "no path": (changed(path=""), "400 reset"),
    "absolute path": (changed(path="https://evil.example.com/"), "400"),
    "asterisk": (changed(path="*"), "400"),
    "space in the path": (changed(path="/a b"), "400 reset"),
    "line feed in the path": (changed(path="/a\nb"), "400 reset"),
    "line feed in a value": ([*head(), ("x", "a\r\nauthorization: b")], "reset"),
    "NUL in a value": ([*head(), ("x", "a\0b")], "reset"),
    "upper case": ([*head(), ("X-Y", "a")], "reset"),
    "colon in a name": ([*head(), ("a:b", "c")], "reset"),
    "connection": ([*head(), ("connection", "authorization")], "reset"),
    "transfer-encoding": ([*head(), ("transfer-encoding", "chunked")], "reset"),
    "te": ([*head(), ("te", "gzip")], "reset"),
    "length without a body": ([*head(), ("content-length", "5")], "400 reset"),
    "two paths": ([*head(), (":path", "/evil")], "reset"),
    "late pseudo-header": ([*head()[:3], ("x", "y"), head()[3]], "reset"),
    "expectation": ([*head(), ("expect", "miracles")], "417"),
    "foreign credential": ([*head(), ("authorization", "Bearer stolen")], "403"),
}


@pytest.mark.parametrize(("headers", "outcome"), BAD.values(), ids=BAD)
def test_what_can_be_read_two_ways_is_refused_and_does_not_arrive(headers: Headers, outcome: str) -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                number = client.ask(headers)
                try:
                    reply = await client.reply(number)
                    got = reply.status or "reset"
                except EOFError:
                    got = "reset"
            await w.quiet()
        assert got in outcome.split()
        assert server.requests == []

    in_loop(scenario())


@pytest.mark.parametrize(
    ("guest", "server", "agreed"),
    [
        (("h2", "http/1.1"), "h2", "h2"),
        (("h2", "http/1.1"), "http/1.1", "http/1.1"),
        (("h2", "http/1.1"), None, None),
        (("h2",), "h2", "h2"),
        (("http/1.1",), "http/1.1", "http/1.1"),
    ],
)
def test_the_guest_is_offered_what_the_server_chose(
    guest: tuple[str, ...], server: str | None, agreed: str | None
) -> None:
    async def scenario() -> None:
        async with inside_world(LOOK, alpn=server, handler=Server().serve if server == "h2" else None) as w:
            async with w.guest(alpn=guest) as (_, writer):
                assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed

    in_loop(scenario())


def test_a_server_that_is_not_verified_gets_nothing_and_the_guest_is_told() -> None:
    async def scenario() -> None:
        for protocols in (("h2", "http/1.1"), ("h2",)):
            bad = server_authority().context("other.example.com", "h2")
            async with inside_world(SECRET_RULE, server=bad) as w:
                async with w.guest(alpn=protocols) as (reader, writer):
                    if len(protocols) == 2:
                        writer.write(get("/x"))
                        answer = await reader.read(-1)
                        assert answer.startswith(b"HTTP/1.1 502 ")
                    else:
                        from h2_world import Client

                        reply = await Client(reader, writer).get("/x")
                        answer = bytes(reply.body)
                        assert reply.status == "502"
                    assert b"certificate of api.example.com is not accepted" in answer
            assert w.recorder.everything == b""

    in_loop(scenario())


def test_bodies_trailers_and_informational_answers() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        request = connection.requests[stream]
        while not request.ended:
            connection.moved.clear()
            await connection.moved.wait()
        connection.h2.send_headers(stream, [(":status", "103"), ("link", "</a>")])
        connection.respond(stream, bytes(request.body), end=False, extra=[("alt-svc", 'h3=":443"')])
        connection.h2.send_headers(stream, [("grpc-status", "0"), ("x-echo", VALUE)], end_stream=True)
        connection.flush()

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                number = client.ask(
                    [*head("/grpc", "POST"), ("te", "trailers")], body=b"abc" + VALUE.encode(), end=False
                )
                client.h2.send_headers(number, [("authorization", "evil"), ("x-sum", "1")], end_stream=True)
                client.flush()
                reply = await client.reply(number)
        assert reply.informational == [[(":status", "103"), ("link", "</a>")]]
        assert bytes(reply.body) == b"abc" + b"*" * len(VALUE) and reply.headers == [(":status", "200")]
        assert reply.trailers == [("grpc-status", "0"), ("x-echo", "*" * len(VALUE))]
        (request,) = server.requests
        assert request.trailers is None and request.get("te") == ["trailers"] and "evil" not in repr(request)

    in_loop(scenario())


def test_a_value_in_the_name_of_a_header_is_overwritten() -> None:
    async def answer(server: Server, connection: Connection, stream: int) -> None:
        connection.h2.send_headers(stream, [(":status", "103"), (f"x-early-{VALUE}", "1")])
        connection.respond(stream, b"x", end=False, extra=[(f"x-{VALUE}", "2")])
        connection.h2.send_headers(stream, [(VALUE, "3")], end_stream=True)
        connection.flush()

    async def scenario() -> None:
        stars = "*" * len(VALUE)
        async with inside_world(SECRET_RULE, handler=Server(answer).serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                reply = await client.get("/")
            (line,) = await w.quiet()
        assert reply.informational == [[(":status", "103"), (f"x-early-{stars}", "1")]]
        assert reply.headers == [(":status", "200"), (f"x-{stars}", "2")]
        assert reply.trailers == [(stars, "3")]
        assert "secret" in line["reason"]

    in_loop(scenario())


def test_both_ways_at_once() -> None:
    async def echo(server: Server, connection: Connection, stream: int) -> None:
        connection.respond(stream, end=False)
        request, sent = connection.requests[stream], 0
        while not (request.ended and sent == len(request.body)):
            connection.moved.clear()
            if sent == len(request.body):
                await connection.moved.wait()
            if piece := bytes(request.body[sent:]):
                await connection.send(stream, piece, end=False)
                sent += len(piece)
        connection.h2.send_data(stream, b"", end_stream=True)
        connection.flush()

    async def scenario() -> None:
        server = Server(echo)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                number = client.ask(head("/bidi", "POST"), end=False)
                reply = client.replies[number]
                for turn in range(20):  # each answer is waited for before the next is sent
                    client.h2.send_data(number, b"%d." % turn)
                    client.flush()
                    await client.until(lambda turn=turn: reply.body.endswith(b"%d." % turn))  # type: ignore[misc]
                client.h2.end_stream(number)
                client.flush()
                assert (await client.reply(number)).ended

    in_loop(scenario())


def test_a_large_body_each_way_and_a_busy_stream_beside_one_that_is_not_read() -> None:
    size = 20 << 20
    block = os.urandom(1 << 16)

    async def answer(server: Server, connection: Connection, stream: int) -> None:
        path = connection.requests[stream].get(":path")[0]
        if path == "/big":
            connection.respond(stream, end=False)
            for _ in range(size // len(block) - 1):
                await connection.send(stream, block, end=False)
            await connection.send(stream, block)
        else:
            connection.respond(stream, b"small")

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(LOOK, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                reply = await client.get("/big")
                assert len(reply.body) == size and reply.body[-len(block) :] == block
                client.acknowledge = False  # from here on the guest reads 64 kB of each stream, and no more
                client.h2.increment_flow_control_window(1 << 20)
                unread = client.ask(head("/big"))
                await client.until(lambda: len(client.replies[unread].body) >= 65535)
                for _ in range(5):
                    assert bytes((await client.get("/small")).body) == b"small"
                assert len(client.replies[unread].body) == 65535
                # The server was stopped by its window, not by our memory.
                assert server.connections[0].h2.local_flow_control_window(3) == 0

    in_loop(scenario())


def test_a_refused_upload_is_told_at_once_and_stopped_later() -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(Rule(HOST, paths=("/ok",)), handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                assert (await client.get("/ok")).status == "200"
                started = time.monotonic()
                number = client.ask(head("/no", "POST"), end=False)
                reply = await client.reply(number)
                assert reply.status == "403" and time.monotonic() - started < 0.5
                for _ in range(20):
                    while client.h2.local_flow_control_window(number) < 16384:
                        await client.until(lambda: client.h2.local_flow_control_window(number) >= 16384)
                    client.h2.send_data(number, bytes(16384))
                    client.flush()
                await client.until(lambda: reply.reset is not None)
                assert reply.reset == 0
                assert (await client.get("/ok")).status == "200"  # the connection goes on
        assert len(server.requests) == 2

    in_loop(scenario())


def test_many_requests_leave_nothing_behind_in_the_relay() -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                for start in range(0, 300, 50):
                    numbers = [client.ask(head(f"/{start + n}")) for n in range(50)]
                    for number in numbers:
                        assert (await client.reply(number)).status == "200"
                assert not w.plain.gateway._context.live
            assert len(await w.quiet()) == 300
        assert len(server.connections) == 1

    in_loop(scenario())


def test_rotation_and_removal_count_from_the_next_stream_on() -> None:
    values = {"key": "sk-first-0123456789"}

    async def scenario() -> None:
        server = Server()
        context = server_authority().context(HOST, "h2")
        async with inside_world(SECRET_RULE, handler=server.serve, server=context, secrets=values.get) as w:
            async with h2_guest(w) as client:
                assert (await client.get("/1")).status == "200"
                values["key"] = "sk-second-0123456789"
                assert (await client.get("/2")).status == "200"
                del values["key"]
                refused = await client.get("/3")
                assert refused.status == "403" and b"the secret key has no value" in refused.body
                values["key"] = "sk-third-0123456789"
                assert (await client.get("/4")).status == "200"  # the connection goes on
            lines = await w.quiet()
        sent = [(request.get(":path"), request.get("authorization")) for request in server.requests]
        wanted = [("/1", "first"), ("/2", "second"), ("/4", "third")]
        assert sent == [([path], [f"Bearer sk-{which}-0123456789"]) for path, which in wanted]
        assert len(server.connections) == 1
        assert [line["verdict"] for line in lines] == ["allowed", "allowed", "refused", "allowed"]

    in_loop(scenario())
