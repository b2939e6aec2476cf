"""Inside TLS: what the guest gets, and what the server got."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace

import pytest
from gateway_world import client_hello, echo, in_loop, until, world
from inside_world import (
    CLOSE,
    HOST,
    LOOK,
    SECRET_RULE,
    VALUE,
    client_context,
    get,
    guest_authority,
    inside_world,
    server_authority,
)

from engine.gateway.authority import Authority
from engine.gateway.errors import GatewayError
from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule

ACCESS_DENIED = bytes([21, 3, 3, 0, 2, 2, 49])


def test_a_request_goes_through_and_is_journalled() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK) as w:
            answer = await w.ask(get("/a?token=abc", extra="X-Mine: yes\r\n" + CLOSE))
            (line,) = await w.quiet()
        assert answer == b"HTTP/1.1 200 Fine\r\nContent-Length: 12\r\nConnection: close\r\n\r\n/a?token=abc"
        assert w.recorder.everything == b"GET /a?token=abc HTTP/1.1\r\nHost: api.example.com\r\nX-Mine: yes\r\n\r\n"
        assert (line["verdict"], line["protocol"], line["how"]) == ("allowed", "tls", "intercept")
        assert (line["host"], line["method"], line["path"]) == (HOST, "GET", "/a")
        assert (line["bytes_in"], line["bytes_out"]) == (len(answer), len(w.recorder.everything))

    in_loop(scenario())


def test_a_host_without_such_a_rule_is_spliced_beside_it() -> None:
    async def scenario() -> None:
        async with inside_world(
            LOOK, Rule("other.example.com"), server=server_authority().context("other.example.com", None)
        ) as w:
            context = client_context(server_authority().certificate)  # the server's own certificate comes through
            path = str(w.plain.gateway.sockets[443])
            reader, writer = await asyncio.open_unix_connection(path, ssl=context, server_hostname="other.example.com")
            writer.write(get("/x", host="other.example.com"))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
            (line,) = await w.quiet()
            assert line["how"] == "splice" and "method" not in line

    in_loop(scenario())


def test_many_requests_share_the_connections() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK) as w:
            answer = await w.ask(b"".join(get(f"/{n}") for n in range(9)) + get("/9", extra=CLOSE))
            lines = await w.quiet()
        assert answer.count(b"HTTP/1.1 200 Fine") == 10 and answer.endswith(b"/9")
        assert len(w.recorder.received) == 1 and len(w.recorder.heads) == 10
        assert [line["path"] for line in lines] == [f"/{n}" for n in range(10)]

    in_loop(scenario())


def test_each_request_is_judged_by_method_and_path() -> None:
    rule = Rule(HOST, methods=("GET",), paths=("/ok/**",), origin="endpoints[3]", place="Sandboxfile.yaml:12")

    async def scenario() -> None:
        async with inside_world(rule) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/ok/%61?q=1"))
                await reader.readuntil(b"/ok/a?q=1")
                writer.write(get("/no"))
                refused = await reader.read(-1)
            answers = [
                await w.ask(get("/ok/x", method="DELETE")),
                await w.ask(get("/ok/../no")),
                await w.ask(get("/ok/x", extra="X-HTTP_Method-Override: DELETE\r\n")),
                await w.ask(get("/ok/x?_method=DELETE")),
                await w.ask(get("/ok/x", method="get")),
            ]
            lines = await w.quiet()
        assert refused.startswith(b"HTTP/1.1 403 ")
        assert b"endpoints[3] does not allow GET api.example.com:443/no" in refused
        assert b"To allow it, change Sandboxfile.yaml:12: `paths` must match /no." in refused
        assert [answer.split()[1] for answer in answers] == [b"403", b"400", b"403", b"403", b"400"]
        assert w.recorder.everything == get("/ok/a?q=1")  # one spelling, and nothing else arrived
        assert [line["path"] for line in lines[:2]] == ["/ok/a", "/no"]
        assert [line["how"] for line in lines] == ["intercept"] + ["refuse"] * 6
        assert lines[1]["place"] == "Sandboxfile.yaml:12" and lines[1]["rule"] == "endpoints[3]"

    in_loop(scenario())


def test_a_refusal_for_programs() -> None:
    import json

    async def scenario() -> None:
        async with inside_world(Rule(HOST, paths=("/ok",), origin="endpoints[0]")) as w:
            answer = await w.ask(get("/no", extra="Accept: application/json, application/problem+json\r\n"))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"\r\nContent-Type: application/problem+json\r\n" in head
            problem = json.loads(body)
            assert (problem["status"], problem["host"], problem["rule"]) == (403, HOST, "endpoints[0]")
            assert "`paths` must match /no" in problem["advice"]
            answer = await w.ask(
                get(host="new.example.com", extra="Accept: application/problem+json\r\n"), "new.example.com"
            )
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["command"] == "sandbox add endpoint new.example.com"

    in_loop(scenario())


def test_a_name_that_no_rule_has_is_told_so_inside_tls() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK) as w:
            answer = await w.ask(get("/x", host="new.example.com"), "new.example.com")
            (line,) = await w.quiet()
            assert answer.startswith(b"HTTP/1.1 403 ") and b"sandbox add endpoint new.example.com\n" in answer
            assert (line["verdict"], line["how"], line["host"], line["path"]) == (
                *("refused", "refuse", "new.example.com"),
                "/x",
            )
            assert w.plain.gateway.take_unnamed() == [("new.example.com", 443)]
            assert await w.plain.ask(443, client_hello(None)) == ACCESS_DENIED
        assert w.plain.dialled == w.plain.resolved == []

    in_loop(scenario())


@pytest.mark.parametrize(
    "host", ["other.example.com", "api.example.com:444", "API.example.com.x", "evil.example.com:443"]
)
@pytest.mark.parametrize("position", ["first", "second"])
def test_a_request_for_another_host_than_the_connections_is_misdirected(host: str, position: str) -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE, Rule("other.example.com")) as w:
            before = get("/before") if position == "second" else b""
            answer = await w.ask(before + get("/x", host=host))
            assert answer.partition(b"/before")[2 if before else 0].startswith(b"HTTP/1.1 421 ")
        assert len(w.recorder.heads) == (1 if before else 0)
        assert b"/x" not in w.recorder.everything

    in_loop(scenario())


def test_one_spelling_of_the_host_and_of_an_absolute_target() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK) as w:
            await w.ask(get("https://API.example.com:443/a?b", host="Api.Example.com.:443", extra=CLOSE))
        assert w.recorder.everything == get("/a?b")

    in_loop(scenario())


HIDDEN = "GET /evil HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"
BAD = {
    "no host": "GET / HTTP/1.1\r\n\r\n",
    "two hosts": get(extra=f"Host: {HOST}\r\n").decode(),
    "user": get(host=f"a@{HOST}").decode(),
    "http target": get(f"http://{HOST}/").decode(),
    "another absolute target": get("https://evil.example.com/").decode(),
    "connect": f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "asterisk": get("*").decode(),
    "both lengths": get(extra="Content-Length: 4\r\nTransfer-Encoding: chunked\r\n").decode() + "0\r\n\r\n" + HIDDEN,
    "odd coding": get(extra="Transfer-Encoding: \x0bchunked\r\n").decode() + "0\r\n\r\n" + HIDDEN,
    "two codings": get(extra="Transfer-Encoding: gzip, chunked\r\n").decode() + "0\r\n\r\n" + HIDDEN,
    "named authorization": get(extra="Connection: close, Authorization\r\n").decode(),
    "named host": get(extra="Connection: host\r\n").decode(),
    "other upgrade": get(extra="Connection: Upgrade\r\nUpgrade: foo\r\n").decode(),
    "websocket without a key": get(extra="Connection: Upgrade\r\nUpgrade: websocket\r\n").decode(),
    "expectation": get(extra="Expect: miracles\r\n").decode(),
    "bare line feeds": f"GET / HTTP/1.1\nHost: {HOST}\n\n",
    "bare carriage return": get(extra="X: a\rAuthorization: b\r\n").decode(),
    "folded": get(extra="X: a\r\n b\r\n").decode(),
    "NUL": get(extra="X: a\0b\r\n").decode(),
    "1.2": f"GET / HTTP/1.2\r\nHost: {HOST}\r\n\r\n",
    "http/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "too long": get(extra=f"X: {'a' * 20000}\r\n").decode(),
    "tls in tls": "\x16\x03\x01\x00\x05",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_can_be_read_two_ways_is_refused_and_does_not_arrive(text: str) -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE) as w:
            answer = await w.ask(text.encode("latin-1"))
            lines = await w.quiet()
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 50"))
        assert VALUE.encode() not in answer
        assert lines[-1]["verdict"] == "refused"
        assert w.recorder.everything == b""

    in_loop(scenario())


def test_a_malformed_chunk_ends_it_and_nothing_behind_it_arrives() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK) as w:
            head = get("/up", extra="Transfer-Encoding: chunked\r\n", method="POST")
            answer = await w.ask(head + b"3\r\nabcXX0\r\n\r\n" + HIDDEN.encode())
            await w.quiet()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"evil" not in w.recorder.everything

    in_loop(scenario())


@pytest.mark.parametrize(
    ("guest", "server", "agreed"),
    [
        (("http/1.1",), "http/1.1", "http/1.1"),
        ((), "http/1.1", None),
        (("http/1.1",), None, None),
        (("spdy/3",), "http/1.1", None),
    ],
)
def test_the_guest_is_offered_what_the_server_chose(
    guest: tuple[str, ...], server: str | None, agreed: str | None
) -> None:
    async def scenario() -> None:
        async with inside_world(LOOK, alpn=server) as w:
            async with w.guest(alpn=guest) as (reader, writer):
                assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
                writer.write(get("/x", extra=CLOSE))
                assert (await reader.read(-1)).endswith(b"/x")
        assert w.recorder.alpn == [agreed]

    in_loop(scenario())


def expired() -> ssl.SSLContext:
    from datetime import timedelta
    from unittest import mock

    with mock.patch("engine.gateway.authority._LEAF_LIFE", timedelta(days=-1)):
        return server_authority().context("expired.example.com", None)


BAD_SERVERS = {
    "another name": lambda: server_authority().context("other.example.com", None),
    "an unknown authority": lambda: Authority.create("nobody").context(HOST, None),
    "the guest's own authority": lambda: guest_authority().context(HOST, None),
}


@pytest.mark.parametrize("server", BAD_SERVERS.values(), ids=BAD_SERVERS)
def test_a_server_that_is_not_verified_gets_nothing(server: object) -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE, server=server()) as w:  # type: ignore[operator]
            answer = await w.ask(get("/x"))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 502 ") and b"the certificate of api.example.com is not accepted" in answer
        assert (line["verdict"], line["path"], line["bytes_out"]) == ("failed", "/x", 0)
        assert w.recorder.everything == b""

    in_loop(scenario())


def test_an_expired_certificate_is_not_accepted() -> None:
    async def scenario() -> None:
        rule = replace(SECRET_RULE, host="expired.example.com")
        async with inside_world(rule, server=expired()) as w:
            answer = await w.ask(get("/x", host=rule.host), rule.host)
        assert answer.startswith(b"HTTP/1.1 502 ") and b"expired" in answer
        assert w.recorder.everything == b""

    in_loop(scenario())


def test_a_server_that_speaks_no_tls_or_is_dead_is_a_502() -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE, dead=True) as w:
            answer = await w.ask(get())
            assert answer.startswith(b"HTTP/1.1 502 ") and b"cannot connect to api.example.com:443" in answer
        seen = bytearray()

        async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 ready\r\n")
            seen.extend(await reader.read(-1))

        async with world(SECRET_RULE, handler=no_tls, authority=guest_authority(), secrets=lambda name: VALUE) as plain:
            context = client_context(guest_authority().certificate)
            path = str(plain.gateway.sockets[443])
            reader, writer = await asyncio.open_unix_connection(path, ssl=context, server_hostname=HOST)
            writer.write(get())
            answer = await reader.read(-1)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 502 ") and b"no TLS with api.example.com" in answer
            await plain.quiet()
        assert VALUE.encode() not in seen

    in_loop(scenario())


def test_deadlines_of_both_handshakes() -> None:
    async def scenario() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)

        limits = Limits(handshake_s=0.2, head_s=0.3)
        async with world(LOOK, handler=silent, authority=guest_authority(), limits=limits) as plain:
            hello = client_hello(HOST)
            async with plain.guest(443) as (reader, writer):  # which does not go on
                writer.write(hello)
                while await reader.read(65536):
                    pass
            (line,) = await plain.quiet()
        assert line["verdict"] == "failed" and "no TLS with api.example.com: no answer within 0.2 s" in line["reason"]
        assert "the guest did not finish TLS within 0.3 s" in line["reason"]

    in_loop(scenario())


def test_a_guest_that_does_not_trust_us_is_journalled_as_that() -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE) as w:
            path = str(w.plain.gateway.sockets[443])

            def distrust() -> None:  # blocking: asyncio's client says no alert
                context = client_context(server_authority().certificate)
                with socket.socket(socket.AF_UNIX) as raw, pytest.raises(ssl.SSLError):
                    raw.connect(path)
                    context.wrap_socket(raw, server_hostname=HOST)

            await asyncio.to_thread(distrust)
            (line,) = await w.quiet()
        assert line["verdict"] == "failed" and "UNKNOWN_CA" in line["reason"]
        assert w.recorder.everything == b""

    in_loop(scenario())


def test_a_connection_without_a_request_is_no_refusal() -> None:
    async def scenario() -> None:
        async with inside_world(LOOK) as w:
            async with w.guest():
                pass
            (line,) = await w.quiet()
        assert line["verdict"] == "allowed" and w.recorder.everything == b""

    in_loop(scenario())


def test_a_policy_that_looks_inside_needs_an_authority() -> None:
    async def scenario() -> None:
        with pytest.raises(GatewayError, match=r"endpoints\[0\] looks inside TLS"):
            async with world(LOOK):
                pass
        async with world(Rule(HOST)) as w:
            with pytest.raises(GatewayError, match="looks inside"):
                w.gateway.set_policy(Policy([LOOK]))
            assert w.gateway.policy == Policy([Rule(HOST)])

    in_loop(scenario())


def test_a_new_policy_cuts_what_it_forbids_or_looks_into() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        await reader.read(-1)

    async def scenario() -> None:
        async with inside_world(LOOK, handler=hold) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/a"))
                await reader.readuntil(b"part")
                w.plain.gateway.set_policy(Policy([replace(LOOK, paths=("/a", "/b"))]))
                w.plain.gateway.set_policy(Policy([replace(LOOK, paths=("/b",))]))
                assert await reader.read(-1) == b""
            (line,) = await w.quiet()
            assert "no longer allowed" in line["reason"]
        async with world(Rule(HOST), handler=echo, authority=guest_authority()) as plain:
            async with plain.guest(443) as (reader, writer):
                hello = client_hello(HOST)
                writer.write(hello)
                await reader.readexactly(len(hello))
                plain.gateway.set_policy(Policy([LOOK]))
                assert await reader.read(-1) == b""
            await until(lambda: plain.gateway.connections == 0)

    in_loop(scenario())
