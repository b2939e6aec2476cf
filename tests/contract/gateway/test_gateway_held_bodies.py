"""Bodies that are judged: what the server got, by HTTP/1.1 and HTTP/2, of whole and of hostile requests."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import replace

import pytest
from gateway_world import in_loop, until
from h2_world import Server, h2_guest, head
from inside_world import CLOSE, HOST, InsideWorld, inside_world

from engine.gateway.lfs import LfsDownloads
from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.pushes import Pushes
from engine.gateway.rules import Injection, Rule

PATH = "/acme/shop.git/git-receive-pack"
AGENT = Pushes(("refs/heads/agent/*",))
RULE = Rule(HOST, methods=("POST",), paths=(PATH,), body=AGENT, origin="endpoints[0]", place="Sandboxfile.yaml:4")
A, B = b"a" * 40, b"b" * 40


def line(text: bytes) -> bytes:
    return b"%04x" % (len(text) + 4) + text


def push(ref: bytes, pack: bytes = b"PACK") -> bytes:
    return line(A + b" " + B + b" " + ref + b"\0report-status") + b"0000" + pack


GOOD, BAD = push(b"refs/heads/agent/x"), push(b"refs/heads/main")


def post(body: bytes, extra: str = CLOSE, path: str = PATH) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def chunked(body: bytes, size: int, extra: str = CLOSE) -> bytes:
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + size]), body[at : at + size]) for at in range(0, len(body), size)
    )
    start = f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n{extra}\r\n".encode()
    return start + chunks + b"0\r\n\r\n"


def test_http1_passes_a_push_that_is_allowed_unchanged() -> None:
    async def scenario() -> None:
        async with inside_world(RULE) as w:
            assert (await w.ask(post(GOOD))).startswith(b"HTTP/1.1 200")
            assert (await w.ask(chunked(GOOD, 3))).startswith(b"HTTP/1.1 200")
            assert (await w.ask(post(b"0000"))).startswith(b"HTTP/1.1 200")
        assert [body for _, body in w.recorder.requests] == [GOOD, GOOD, b"0000"]

    in_loop(scenario())


EDIT = b"To allow it, change Sandboxfile.yaml:4: write `push: [agent/*, main]`"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (post(BAD), EDIT),
        (chunked(BAD, 1), EDIT),
        (post(BAD[:40]), b"not a push as git writes it"),
        (post(b""), b"not a push as git writes it"),
        (post(b"0000PACK"), b"not a push as git writes it"),
    ],
)
def test_http1_sends_nothing_of_a_push_that_is_refused(request_: bytes, said: bytes) -> None:
    async def scenario() -> None:
        async with inside_world(RULE) as w:
            answer = await w.ask(request_)
            (entry,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 403") and said in answer
        assert w.recorder.everything == b""
        assert (entry["verdict"], entry["how"], entry["bytes_out"]) == ("refused", "refuse", 0)

    in_loop(scenario())


def test_http1_a_refused_push_ends_the_connection_and_what_is_behind_it() -> None:
    async def scenario() -> None:
        async with inside_world(RULE) as w:
            answer = await w.ask(post(GOOD, "") + post(BAD, "") + post(GOOD))
        assert answer.count(b"HTTP/1.1 ") == 2
        assert [body for _, body in w.recorder.requests] == [GOOD]

    in_loop(scenario())


def test_http1_a_guest_that_waits_for_100_gets_it_from_us() -> None:
    async def scenario() -> None:
        async with inside_world(RULE) as w:
            for body, status in ((GOOD, b"200"), (BAD, b"403")):
                async with w.guest() as (reader, writer):
                    writer.write(post(b"", f"{CLOSE}Expect: 100-continue\r\n").replace(b"h: 0", b"h: %d" % len(body)))
                    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
                    assert w.recorder.everything == b"" or body is BAD
                    writer.write(body)
                    assert (await reader.read(-1)).startswith(b"HTTP/1.1 " + status)
        assert [body for _, body in w.recorder.requests] == [GOOD]
        assert b"expect" not in w.recorder.everything.lower()

    in_loop(scenario())


def test_http1_a_compressed_push_is_refused() -> None:
    async def scenario() -> None:
        async with inside_world(RULE) as w:
            answer = await w.ask(post(GOOD, f"{CLOSE}Content-Encoding: gzip\r\n"))
        assert answer.startswith(b"HTTP/1.1 403") and b"compressed" in answer
        assert w.recorder.everything == b""

    in_loop(scenario())


def test_another_check_of_bodies_is_served_alike() -> None:
    batch = Rule(HOST, methods=("POST",), paths=("/acme/shop.git/info/lfs/objects/batch",), body=LfsDownloads())

    async def scenario() -> None:
        path = batch.paths[0]
        async with inside_world(batch) as w:
            assert (await w.ask(post(b'{"operation": "upload"}', path=path))).startswith(b"HTTP/1.1 403")
            assert w.recorder.everything == b""
            assert (await w.ask(post(b'{"operation": "download"}', path=path))).startswith(b"HTTP/1.1 200")
        assert [body for _, body in w.recorder.requests] == [b'{"operation": "download"}']

    in_loop(scenario())


def test_a_secret_is_bound_to_the_bodies_of_its_rule() -> None:
    """The rule without it would allow the push, without it: and the head is made before the body is read."""
    key = Injection("key", "authorization", "bearer")
    free = Rule(HOST, methods=("POST",), paths=(PATH,))
    bound = Rule(HOST, methods=("POST",), paths=(PATH,), body=AGENT, injections=(key,))

    async def scenario() -> None:
        async with inside_world(free, bound) as w:
            assert (await w.ask(post(BAD))).startswith(b"HTTP/1.1 403")
            assert w.recorder.everything == b""
            assert (await w.ask(post(GOOD))).startswith(b"HTTP/1.1 200")
        assert b"uthorization: Bearer" in w.recorder.heads[0]

    in_loop(scenario())


def test_http2_passes_and_refuses_stream_by_stream() -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                pack = b"PACK" + b"x" * 200_000
                bodies = [GOOD, BAD, push(b"refs/heads/agent/y", pack), b"0000", BAD[:9], GOOD]
                numbers = []
                for body in bodies:
                    number = client.ask(head(PATH, "POST"), end=False)
                    client.h2.send_data(number, body[:5], end_stream=False)
                    client.flush()
                    numbers.append((number, body))
                for number, body in numbers:
                    rest = body[5:]
                    while rest:
                        await client.until(lambda number=number: client.h2.local_flow_control_window(number) > 16384)
                        client.h2.send_data(number, rest[:16384])
                        rest = rest[16384:]
                        client.flush()
                    client.h2.end_stream(number)
                    client.flush()
                replies = [await client.reply(number) for number, _ in numbers]
            lines = await w.quiet()
        assert [reply.status for reply in replies] == ["200", "403", "200", "200", "403", "200"]
        assert b"does not allow a push to refs/heads/main" in replies[1].body
        got = sorted((bytes(request.body) for request in server.requests), key=len)
        assert got == sorted([GOOD, bodies[2], b"0000", GOOD], key=len)
        assert sorted(line["verdict"] for line in lines) == ["allowed"] * 4 + ["refused"] * 2

    in_loop(scenario())


def test_http2_without_a_body_and_with_100_continue() -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                assert (await client.reply(client.ask(head(PATH, "POST")))).status == "403"
                number = client.ask([*head(PATH, "POST"), ("expect", "100-continue")], end=False)
                reply = client.replies[number]
                await client.until(lambda: bool(reply.informational))
                assert server.requests == []
                client.h2.send_data(number, GOOD, end_stream=True)
                client.flush()
                assert (await client.reply(number)).status == "200"
        (request,) = server.requests
        assert bytes(request.body) == GOOD and request.get("expect") == []

    in_loop(scenario())


def test_http2_a_stream_that_is_cancelled_or_cut_while_it_is_held_gives_its_bytes_back() -> None:
    async def scenario() -> None:
        server = Server()
        async with inside_world(RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                many = b"".join(line(A + b" " + B + b" refs/heads/agent/%d" % n) for n in range(100))
                for _ in range(500):  # more than the connection's window together
                    number = client.ask(head(PATH, "POST"), end=False)
                    await client.until(lambda: client.h2.outbound_flow_control_window > len(many))
                    client.h2.send_data(number, many)
                    client.h2.reset_stream(number)
                    client.flush()
                number = client.ask(head(PATH, "POST"), end=False)
                client.h2.send_data(number, GOOD[:20])
                client.flush()
                live = w.plain.gateway._context.live
                await until(lambda: len(w.plain.lines()) == 500 and len(live) == 1)
                w.plain.gateway.set_policy(Policy((Rule(HOST, methods=("GET",)),)))
                assert (await client.reply(number)).reset is not None
            lines = await w.quiet()
        assert server.requests == []
        assert lines[-1]["reason"] == "no longer allowed" and len(lines) == 501

    in_loop(scenario())


def test_other_rules_that_come_while_a_body_is_held_end_it() -> None:
    other = Policy((replace(RULE, body=Pushes(("refs/heads/docs",))),))

    async def by_http1() -> None:
        async with inside_world(RULE) as w:
            async with w.guest() as (reader, writer):
                writer.write(post(GOOD)[: -len(GOOD)] + GOOD[:20])
                await until(lambda: any(entry.path == PATH for entry in w.plain.gateway._context.live))
                w.plain.gateway.set_policy(other)
                writer.write(GOOD[20:])
                assert b"rules have changed" in await reader.read(-1)
        assert w.recorder.everything == b""

    async def by_http2() -> None:
        server = Server()
        async with inside_world(RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                number = client.ask(head(PATH, "POST"), body=GOOD[:20], end=False)
                await until(lambda: any(entry.path == PATH for entry in w.plain.gateway._context.live))
                w.plain.gateway.set_policy(other)
                client.h2.send_data(number, GOOD[20:], end_stream=True)
                client.flush()
                reply = await client.reply(number)
                assert reply.status == "403" and b"rules have changed" in reply.body
        assert server.requests == []

    in_loop(by_http1())
    in_loop(by_http2())


def test_a_body_of_which_nothing_comes_is_not_held_for_ever() -> None:
    limits = Limits(held_s=0.05)

    async def by_http1() -> None:
        async with inside_world(RULE, limits=limits) as w:
            answer = await w.ask(post(GOOD)[: -len(GOOD)] + GOOD[:20])
        assert answer.startswith(b"HTTP/1.1 400") and b"did not come within 0.05 s" in answer
        assert w.recorder.everything == b""

    async def by_http2() -> None:
        server = Server()
        async with inside_world(RULE, handler=server.serve, alpn="h2", limits=limits) as w:
            async with h2_guest(w) as client:
                number = client.ask(head(PATH, "POST"), body=GOOD[:20], end=False)
                assert (await client.reply(number)).status == "408"
        assert server.requests == []

    in_loop(by_http1())
    in_loop(by_http2())


async def push_slowly(w: InsideWorld, size: int) -> None:
    async with w.guest() as (reader, writer):
        start = push(b"refs/heads/agent/x")
        writer.write(post(b"").replace(b"h: 0", b"h: %d" % (len(start) + size)) + start)
        piece = b"x" * (1 << 20)
        for _ in range(size >> 20):
            writer.write(piece)
            await writer.drain()
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 200")


def test_a_large_push_is_not_held() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        left = len(push(b"refs/heads/agent/x")) + (200 << 20)
        while left:
            left -= len(await reader.read(1 << 20))
        writer.write(b"HTTP/1.1 200 Fine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    async def scenario() -> None:
        async with inside_world(RULE, handler=swallow) as w:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await push_slowly(w, 200 << 20)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 << 10  # of kilobytes

    in_loop(scenario())
