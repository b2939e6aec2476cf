from __future__ import annotations

import asyncio

import pytest
from gateway_world import in_loop, until, world

from engine.gateway.authority import Authority
from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule

ALLOW = Rule("api.example.com", origin="endpoints[0]")


class Origin:
    """An HTTP server that remembers each head and body, byte for byte, and keeps connections alive."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                assert error.partial == b"", f"bytes that are no request: {error.partial!r}"
                return
            self.heads.append(head)
            lower = head.lower()
            body = b""
            if b"\r\nexpect: 100-continue" in lower:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if b"\r\ncontent-length: " in lower:
                body = await reader.readexactly(int(lower.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0]))
            elif b"\r\ntransfer-encoding: chunked" in lower:
                while size := int(await reader.readline(), 16):
                    body += await reader.readexactly(size)
                    await reader.readline()
                await reader.readline()
            self.bodies.append(body)
            path = head.split(b" ")[1]
            if path == b"/chunked":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            elif path == b"/until-close":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\nuntil close")
                return
            elif path == b"/nonsense":
                writer.write(b"no HTTP\r\n\r\n")
                return
            elif head.startswith(b"HEAD "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 Fine\r\nX-Thing: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))


def get(path: str = "/", host: str = "api.example.com", extra: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode()


CLOSE = "Connection: close\r\n"


def test_an_allowed_request_goes_through_and_is_journalled_without_its_query() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            answer = await w.ask(80, get("/a?token=abc", extra="X-Mine: yes\r\n" + CLOSE))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 200 Fine\r\nX-Thing: 1\r\n")
        assert answer.endswith(b"\r\n\r\n/a?token=abc")
        assert origin.heads == [b"GET /a?token=abc HTTP/1.1\r\nHost: api.example.com\r\nX-Mine: yes\r\n\r\n"]
        assert (line["verdict"], line["protocol"], line["method"], line["path"]) == ("allowed", "http", "GET", "/a")
        assert (line["bytes_in"], line["bytes_out"]) == (len(answer), len(origin.heads[0]))

    in_loop(scenario())


def test_a_refusal_names_the_line_to_add() -> None:
    async def scenario() -> None:
        async with world(ALLOW, Rule("x.example.com", port=8080)) as w:
            async with w.guest(80) as (reader, writer):
                writer.write(get("/thing", host="Other.Example.com."))
                answer = await reader.read(-1)
                (line,) = w.lines()
            assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
            assert b"other.example.com:80" in answer
            assert b"\n  - other.example.com\n" in answer
            assert (line["verdict"], line["host"], line["path"]) == ("refused", "other.example.com", "/thing")
            answer = await w.ask(8080, get(host="other.example.com:8080"))
            assert b"\n  - {host: other.example.com, port: 8080}\n" in answer
        assert w.resolved == w.dialled == []

    in_loop(scenario())


def test_a_denied_name_is_not_told_to_add_a_line() -> None:
    async def scenario() -> None:
        async with world(ALLOW, Rule("*.example.com", deny=True, origin="endpoints[3]")) as w:
            answer = await w.ask(80, get())
        assert b"denied by endpoints[3]" in answer and b"add this line" not in answer

    in_loop(scenario())


def test_a_large_upload_to_a_refused_host_still_gets_its_answer() -> None:
    async def scenario() -> None:
        async with world(ALLOW) as w:
            async with w.guest(80) as (reader, writer):
                writer.write(b"POST / HTTP/1.1\r\nHost: no.example.com\r\nContent-Length: 1000000\r\n\r\n")
                writer.write(bytes(1_000_000))
                assert (await reader.readline()) == b"HTTP/1.1 403 Forbidden\r\n"

    in_loop(scenario())


def test_many_requests_share_one_upstream_connection() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            requests = [get(f"/{n}") for n in range(9)] + [get("/9", extra=CLOSE)]  # pipelined, as apt does
            answer = await w.ask(80, b"".join(requests))
            lines = await w.quiet()
        assert answer.count(b"HTTP/1.1 200 Fine") == 10 and answer.endswith(b"\r\n\r\n/9")
        assert origin.connections == 1
        assert [line["path"] for line in lines] == [f"/{n}" for n in range(10)]

    in_loop(scenario())


def test_a_later_request_for_another_host_is_judged_by_itself() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, Rule("two.example.com"), handler=origin.serve) as w:
            evil = get("/evil", host="evil.example.com")
            answer = await w.ask(80, get("/1") + get("/2", host="two.example.com") + evil + get("/4"))
            lines = await w.quiet()
        assert answer.count(b"HTTP/1.1 200 ") == 1 + 1 and answer.count(b"HTTP/1.1 403 ") == 1
        assert w.resolved == ["api.example.com", "two.example.com"]
        assert origin.connections == 2 and len(origin.heads) == 2
        assert [line["verdict"] for line in lines] == ["allowed", "allowed", "refused"]

    in_loop(scenario())


def test_a_new_policy_counts_for_the_next_request_on_the_connection() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            async with w.guest(80) as (reader, writer):
                writer.write(get("/1"))
                await reader.readuntil(b"\r\n\r\n/1")
                await until(lambda: len(w.lines()) == 1)  # or the cut would be for the first request
                w.gateway.set_policy(Policy())
                writer.write(get("/2"))
                assert (await reader.readline()) == b"HTTP/1.1 403 Forbidden\r\n"
        assert len(origin.heads) == 1

    in_loop(scenario())


def test_plain_requests_are_judged_by_method_and_path() -> None:
    async def scenario() -> None:
        origin = Origin()
        rule = Rule("api.example.com", methods=("GET",), paths=("/ok/**",), origin="endpoints[0]")
        deny = Rule("api.example.com", deny=True, paths=("/ok/secret",), origin="endpoints[1]")
        async with world(rule, deny, handler=origin.serve, authority=Authority.create("shop")) as w:
            answer = await w.ask(80, get("/ok/%41%2f%c3%a9?%61", extra=CLOSE))
            refused = [
                await w.ask(80, request)
                for request in (get("/no"), get("/ok//x"), get("/OK/x"), get("/ok/%73ecret"), get("/ok/Secret/"))
            ]
            refused.append(await w.ask(80, get("/ok/a").replace(b"GET", b"PUT")))
            lines = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert origin.heads == [get("/ok/A%2F%C3%A9?%61")]
        assert [answer.split()[1] for answer in refused] == [b"403", b"400", b"403", b"403", b"403", b"403"]
        assert b"denied by endpoints[1]" in refused[3] and b"beats" in refused[3]
        assert [line["path"] for line in lines[:2]] == ["/ok/A%2F%C3%A9", "/no"]
        assert [line["how"] for line in lines] == ["intercept"] + ["refuse"] * 6

    in_loop(scenario())


def test_without_a_path_condition_a_target_goes_on_byte_for_byte() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            await w.ask(80, get("/@s%2fn/../%7e//x;y?a=/../b%", extra=CLOSE))
        assert origin.heads == [get("/@s%2fn/../%7e//x;y?a=/../b%")]

    in_loop(scenario())


HIDDEN = "GET /evil HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"
BAD_REQUESTS = {
    "no host": "GET / HTTP/1.1\r\n\r\n",
    "no host in 1.0": "GET / HTTP/1.0\r\n\r\n",
    "two hosts": "GET / HTTP/1.1\r\nHost: api.example.com\r\nHost: evil.example.com\r\n\r\n",
    "one host twice": "GET / HTTP/1.1\r\nHost: api.example.com\r\nHost: api.example.com\r\n\r\n",
    "two hosts in 1.0": "GET / HTTP/1.0\r\nHost: api.example.com\r\nHost: evil.example.com\r\n\r\n",
    "host list": "GET / HTTP/1.1\r\nHost: api.example.com, evil.example.com\r\n\r\n",
    "host with user": "GET / HTTP/1.1\r\nHost: api.example.com@evil.example.com\r\n\r\n",
    "host with another port": "GET / HTTP/1.1\r\nHost: api.example.com:81\r\n\r\n",
    "empty host": "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "space before the colon": "GET / HTTP/1.1\r\nHost : api.example.com\r\n\r\n",
    "other absolute target": "GET http://evil.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    "user in the target": "GET http://a@api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    "https target": "GET https://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    "relative target": "GET x HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    "connect": "CONNECT api.example.com:80 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    "connect to a path": "CONNECT / HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    "websocket": get(extra="Connection: Upgrade\r\nUpgrade: websocket\r\n").decode(),
    "both lengths": get(extra="Content-Length: 4\r\nTransfer-Encoding: chunked\r\n").decode() + "0\r\n\r\n" + HIDDEN,
    "two lengths": get(extra="Content-Length: 4\r\nContent-Length: 5\r\n").decode() + HIDDEN,
    "signed length": get(extra="Content-Length: +4\r\n").decode() + HIDDEN,
    "odd coding": get(extra="Transfer-Encoding: xchunked\r\n").decode() + "0\r\n\r\n" + HIDDEN,
    "coding list": get(extra="Transfer-Encoding: chunked, identity\r\n").decode() + "0\r\n\r\n" + HIDDEN,
    "two codings": get(extra="Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n").decode() + "0\r\n\r\n" + HIDDEN,
    "chunked in 1.0": "POST / HTTP/1.0\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded line": "GET / HTTP/1.1\r\nHost: api.example.com\r\nX: a\r\n b\r\n\r\n",
    "folded host": "GET / HTTP/1.1\r\nHost:\r\n api.example.com\r\n\r\n",
    "bare line feeds": "GET / HTTP/1.1\nHost: api.example.com\n\n",
    "one bare line feed": "GET / HTTP/1.1\r\nHost: api.example.com\r\nX: a\nHost: evil.example.com\r\n\r\n",
    "bare carriage return": "GET / HTTP/1.1\r\nHost: api.example.com\r\nX: a\rHost: evil.example.com\r\n\r\n",
    "NUL": "GET / HTTP/1.1\r\nHost: api.example.com\r\nX: a\0b\r\n\r\n",
    "http/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/0.9": "GET /\r\n\r\n",
    "another protocol": "SSH-2.0-client\r\n",
    "a binary protocol": "\0\0\0\x08\x04\xd2\x16\x2f",
    "an address": "GET / HTTP/1.1\r\nHost: 203.0.113.10\r\n\r\n",
    "an address in brackets": "GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n",
    "an address in disguise": "GET / HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n",
    "longer than the limit": get(extra=f"X: {'a' * 20000}\r\n").decode(),
}


@pytest.mark.parametrize("request_text", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
@pytest.mark.parametrize("position", ["first", "second"])
def test_a_request_that_can_be_read_two_ways_is_refused(request_text: str, position: str) -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, Rule("evil.example.com", deny=True), handler=origin.serve) as w:
            before = get("/before") if position == "second" else b""
            answer = await w.ask(80, before + request_text.encode("latin-1"))
            lines = await w.quiet()
        if before:
            assert answer.startswith(b"HTTP/1.1 200 ")
            answer = answer.partition(b"/before")[2]
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 50"))
        assert lines[-1]["verdict"] == "refused"
        assert origin.heads == ([b"GET /before HTTP/1.1\r\nHost: api.example.com\r\n\r\n"] if before else [])

    in_loop(scenario())


def test_a_request_hidden_in_a_body_stays_in_the_body() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            head = f"POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: {len(HIDDEN)}\r\n\r\n"
            await w.ask(80, head.encode() + HIDDEN.encode() + get("/after", extra=CLOSE))
        assert origin.bodies == [HIDDEN.encode(), b""]

    in_loop(scenario())


def test_chunks_are_written_anew_without_extensions_and_trailers() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            head = b"POST /up HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
            body = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nHost: evil.example.com\r\n\r\n"
            answer = await w.ask(80, head + body + get("/after", extra=CLOSE))
        assert answer.endswith(b"/after")
        assert origin.bodies == [b"abcde", b""]

    in_loop(scenario())


def test_a_malformed_chunk_ends_it() -> None:
    async def scenario() -> None:
        origin = Origin()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            origin.heads.append(await reader.read(-1))

        async with world(ALLOW, handler=serve) as w:
            head = b"POST /up HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
            answer = await w.ask(80, head + b"zz\r\n" + HIDDEN.encode())
            await until(lambda: bool(origin.heads))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert line["verdict"] == "refused"
        assert b"evil" not in origin.heads[0]

    in_loop(scenario())


def test_an_offer_of_http2_is_dropped() -> None:
    async def scenario() -> None:
        origin = Origin()
        extra = "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        async with world(ALLOW, handler=origin.serve) as w:
            answer = await w.ask(80, get(extra=extra))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert origin.heads == [get()]

    in_loop(scenario())


def test_an_absolute_target_for_the_same_host_becomes_a_path() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            await w.ask(80, get("http://API.example.com:80/a?b", extra=CLOSE))
            await w.ask(80, get("http://api.example.com?b", extra=CLOSE))
        assert [head.split()[1] for head in origin.heads] == [b"/a?b", b"/?b"]

    in_loop(scenario())


def test_answers_of_every_framing() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            head = b"HEAD / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
            answer = await w.ask(80, get("/chunked") + head + get("/until-close") + get("/last", extra=CLOSE))
            assert b"\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200" in answer
            assert b"Content-Length: 999\r\n\r\nHTTP/1.1 200" in answer
            assert b"b\r\nuntil close\r\n0\r\n\r\nHTTP/1.1 200" in answer
            assert answer.endswith(b"\r\n\r\n/last")
            old = await w.ask(80, b"GET /chunked HTTP/1.0\r\nHost: api.example.com\r\n\r\n")
            assert old.endswith(b"\r\n\r\nabc")

    in_loop(scenario())


def test_expect_continue() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            async with w.guest(80) as (reader, writer):
                head = "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
                writer.write(head.encode())
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
                writer.write(b"abc")
                assert (await reader.readline()) == b"HTTP/1.1 200 Fine\r\n"
        assert origin.bodies == [b"abc"]

    in_loop(scenario())


def test_an_early_answer_ends_an_upload() -> None:
    async def too_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async def scenario() -> None:
        async with world(ALLOW, handler=too_large) as w:
            async with w.guest(80) as (reader, writer):
                writer.write(b"POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 1000\r\n\r\nabc")
                assert (await reader.read(-1)).startswith(b"HTTP/1.1 413 ")

    in_loop(scenario())


@pytest.mark.parametrize("dead", [True, False])
def test_an_upstream_that_fails_is_a_502(dead: bool) -> None:
    async def scenario() -> None:
        async with world(ALLOW, handler=Origin().serve, dead=dead) as w:
            answer = await w.ask(80, get("/nonsense"))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 502 ") and b"api.example.com" in answer
        assert line["verdict"] == "failed"

    in_loop(scenario())


def test_the_guest_is_hung_up_on_when_a_kept_upstream_closes() -> None:
    async def scenario() -> None:
        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with world(ALLOW, handler=once) as w:
            assert (await w.ask(80, get())).endswith(b"\r\n\r\nok")

    in_loop(scenario())


def test_a_rebinding_name_is_a_403() -> None:
    async def scenario() -> None:
        async with world(ALLOW) as w:
            w.addresses["api.example.com"] = ["192.168.1.1"]
            answer = await w.ask(80, get())
        assert answer.startswith(b"HTTP/1.1 403 ") and b"192.168.1.1: private" in answer
        assert b"add this line" not in answer and w.dialled == []

    in_loop(scenario())


@pytest.mark.parametrize("sent", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: api.example.com\r\n", get()[:-1]])
def test_a_head_that_never_ends_is_given_up(sent: bytes) -> None:
    async def scenario() -> None:
        async with world(ALLOW, limits=Limits(head_s=0.1)) as w:
            assert (await w.ask(80, sent)).startswith(b"HTTP/1.1 408 ")

    in_loop(scenario())


def test_a_head_in_single_bytes() -> None:
    async def scenario() -> None:
        origin = Origin()
        async with world(ALLOW, handler=origin.serve) as w:
            async with w.guest(80) as (reader, writer):
                for byte in get("/slow", extra=CLOSE):
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0)
                assert (await reader.read(-1)).endswith(b"/slow")
            async with w.guest(80) as (reader, writer):
                for byte in b"GET / HTTP/1.1\r\nA: b\nHost: api.example.com\r\n\r\n":
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0)
                assert (await reader.read(-1)).startswith(b"HTTP/1.1 400 ")

    in_loop(scenario())
