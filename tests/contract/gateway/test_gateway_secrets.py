"""Credentials: what the server got, and what nobody else did."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

import pytest
from gateway_world import in_loop, world
from inside_world import (
    CLOSE,
    HELD,
    HOST,
    SECRET_RULE,
    VALUE,
    fields_of,
    get,
    guest_authority,
    inside_world,
    server_authority,
)

from engine.gateway.rules import Injection, Rule

RIVALS = [
    f"Authorization: Bearer {HELD}\r\n",
    f"authorization: Bearer {HELD}\r\nAUTHORIZATION: {HELD}\r\n",
    f"X-Api-Key: {HELD}\r\n",
    f"x_api_key: {HELD}\r\nX_Api-Key: {HELD}\r\n",
    f"Authorization: Basic {base64.b64encode(f'x:{HELD}'.encode()).decode()}\r\n",
    f"Private-Token: {HELD}\r\n",
    f"Connection: x-api-key\r\nX-Api-Key: {HELD}\r\n",
    "Authorization: \r\n",
    "",
]


@pytest.mark.parametrize("rivals", RIVALS)
def test_the_server_gets_the_value_once_and_no_rival(rivals: str) -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE) as w:
            answer = await w.ask(get("/v1", extra=rivals + "X-Mine: yes\r\n" + CLOSE))
            assert answer.startswith(b"HTTP/1.1 200 ")
            journal = repr(await w.quiet())
            assert VALUE not in journal and HELD not in journal
        (head,) = w.recorder.heads
        assert fields_of(head) == {
            "host": [HOST],
            "x-mine": ["yes"],
            "authorization": [f"Bearer {VALUE}"],
            "accept-encoding": ["identity"],
        }

    in_loop(scenario())


def test_rivals_in_trailers_do_not_get_there() -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE) as w:
            body = b"3\r\nabc\r\n0\r\nAuthorization: evil\r\nX-Api-Key: evil\r\n\r\n"
            extra = "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n" + CLOSE
            await w.ask(get("/up", extra=extra, method="POST") + body)
        assert w.recorder.requests[0][1] == b"abc"
        assert b"evil" not in w.recorder.everything and b"railer" not in w.recorder.everything

    in_loop(scenario())


def test_basic_for_git() -> None:
    git = Injection("key", "authorization", "basic", user="x-access-token", paths=("/acme/**",), placeholders=(HELD,))

    async def scenario() -> None:
        async with inside_world(Rule(HOST, injections=(git,))) as w:
            await w.ask(get("/acme/shop.git/info/refs?service=git-upload-pack") + get("/other", extra=CLOSE))
        first, second = map(fields_of, w.recorder.heads)
        wanted = base64.b64encode(f"x-access-token:{VALUE}".encode()).decode()
        assert first["authorization"] == [f"Basic {wanted}"]
        assert "authorization" not in second

    in_loop(scenario())


def test_rotation_counts_from_the_next_request_on() -> None:
    values = {"key": "sk-first-0123456789"}

    async def scenario() -> None:
        async with inside_world(SECRET_RULE, secrets=values.get) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/1"))
                await reader.readuntil(b"/1")
                values["key"] = "sk-second-0123456789"
                writer.write(get("/2"))
                await reader.readuntil(b"/2")
                del values["key"]
                writer.write(get("/3"))
                answer = await reader.read(-1)
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert b"the secret key has no value" in answer and b"sandbox secret set key" in answer
            assert (await w.quiet())[-1]["verdict"] == "refused"
        sent = [fields_of(head)["authorization"] for head in w.recorder.heads]
        assert sent == [["Bearer sk-first-0123456789"], ["Bearer sk-second-0123456789"]]
        assert len(w.recorder.received) == 1

    in_loop(scenario())


@pytest.mark.parametrize(
    ("extra", "path"),
    [("Authorization: Bearer sk-stolen\r\n", "/"), ("X_Api_Key: sk-stolen\r\n", "/"), ("", "/?access_token=sk-stolen")],
)
def test_another_credential_is_refused_unless_the_rule_says_so(extra: str, path: str) -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE) as w:
            answer = await w.ask(get(path, extra=extra))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 403 ") and b"foreign_credentials" in answer
        assert w.recorder.everything == b"" and "sk-stolen" not in repr(line) and line["verdict"] == "refused"
        async with inside_world(replace(SECRET_RULE, foreign_credentials=True)) as w:
            await w.ask(get(path, extra=extra + CLOSE))
        assert b"sk-stolen" in w.recorder.everything and VALUE.encode() not in w.recorder.everything

    in_loop(scenario())


OTHER = Rule("other.example.com", intercept=True)


@pytest.mark.parametrize(
    ("extra", "path"),
    [
        (f"Authorization: Bearer {HELD}\r\n", "/"),
        (f"X-Anything: {HELD}\r\n", "/"),
        ("", f"/{HELD}"),
        ("", "/?a=" + HELD.replace("-", "%2D")),
        (f"Authorization: Basic {base64.b64encode(f'x:{HELD}'.encode()).decode()}\r\n", "/"),
    ],
)
def test_a_placeholder_on_its_way_to_another_host_is_refused_and_journalled(extra: str, path: str) -> None:
    async def scenario() -> None:
        server = server_authority().context("other.example.com", "http/1.1")
        async with inside_world(SECRET_RULE, OTHER, server=server) as w:
            answer = await w.ask(get(path, extra=extra, host="other.example.com"), "other.example.com")
            (line,) = await w.quiet()
            assert answer.startswith(b"HTTP/1.1 403 ") and b"placeholder of a secret" in answer
            assert (line["verdict"], line["how"]) == ("refused", "refuse") and "placeholder" in line["reason"]
            plain = await w.plain.ask(80, get(path, extra=extra, host="other.example.com"))
            assert plain.startswith(b"HTTP/1.1 403 ") and b"placeholder of a secret" in plain
        assert w.recorder.everything == b""

    in_loop(scenario())


def test_nothing_of_ours_goes_to_another_host_or_path_or_without_tls() -> None:
    async def scenario() -> None:
        server = server_authority().context("other.example.com", "http/1.1")
        async with inside_world(SECRET_RULE, OTHER, server=server) as w:
            await w.ask(get("/", host="other.example.com", extra=CLOSE), "other.example.com")
            answer = await w.plain.ask(80, get("/"))
            assert answer.startswith(b"HTTP/1.1 403 ") and b"goes out by TLS only" in answer
        assert VALUE.encode() not in w.recorder.everything and len(w.recorder.heads) == 1

    in_loop(scenario())


ECHO = b"HTTP/1.1 200 %s\r\nX-Echo: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"


def echo_reply(value: bytes) -> bytes:
    body = b'{"you sent": "' + value + b'"}'
    return ECHO % (value, value, len(body), body)


def test_a_value_in_an_answer_is_overwritten() -> None:
    value = VALUE.encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b"<" + value + b">")
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Last: " + value + b"\r\n\r\n"

    async def scenario() -> None:
        async with inside_world(SECRET_RULE, replies={"/echo": echo_reply(value), "/chunked": chunked}) as w:
            answer = await w.ask(get("/echo") + get("/chunked", extra=CLOSE))
            lines = await w.quiet()
        assert answer.startswith(echo_reply(b"*" * len(value)))
        assert value not in answer and value[8:] not in answer.replace(b"\r\n1\r\n", b"")
        assert b"\r\nX-Last: " + b"*" * len(value) + b"\r\n\r\n" in answer
        assert all("overwritten" in line["reason"] for line in lines)

    in_loop(scenario())


def test_a_former_value_in_an_answer_is_overwritten_too() -> None:
    """It may still be good, and a host may show an earlier request."""
    values = {"key": VALUE}
    paged = replace(SECRET_RULE, injections=(replace(SECRET_RULE.injections[0], paths=("/with",)),))

    async def scenario() -> None:
        async with inside_world(paged, secrets=values.get, replies={"/echo": echo_reply(VALUE.encode())}) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/with"))
                await reader.readuntil(b"/with")
                for now in ("sk-another-0123456789", None):
                    values.pop("key")
                    if now is not None:
                        values["key"] = now
                    writer.write(get("/echo"))
                    assert await reader.readuntil(b'"}') == echo_reply(b"*" * len(VALUE))
        assert len(w.recorder.received) == 1

    in_loop(scenario())


def test_a_value_in_an_answer_is_overwritten_without_tls_too() -> None:
    paged = replace(SECRET_RULE, injections=(replace(SECRET_RULE.injections[0], paths=("/with",)),))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(echo_reply(VALUE.encode()))
        await writer.drain()

    async def scenario() -> None:
        async with world(paged, handler=serve, secrets={"key": VALUE}.get, authority=guest_authority()) as w:
            assert await w.ask(80, get("/echo")) == echo_reply(b"*" * len(VALUE))

    in_loop(scenario())


def test_the_value_is_in_no_error_of_ours() -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE, secrets=lambda name: f"{VALUE}\r\nX: y") as w:
            answer = await w.ask(get("/"))
            (line,) = await w.quiet()
            assert answer.startswith(b"HTTP/1.1 403 ") and VALUE.encode() not in answer and VALUE not in repr(line)
        for replies in ({"/": b"HTTP/1.1 200 OK\r\n" + VALUE.encode()}, {"/": VALUE.encode() + b"\r\n\r\n"}):
            async with inside_world(SECRET_RULE, replies=replies) as w:
                answer = await w.ask(get("/"))
                (line,) = await w.quiet()
                assert answer.startswith(b"HTTP/1.1 502 ")
                assert VALUE.encode() not in answer and VALUE not in repr(line)

    in_loop(scenario())


def test_a_bug_in_the_source_of_secrets_says_no_value(caplog: pytest.LogCaptureFixture) -> None:
    def broken(name: str) -> str:
        raise RuntimeError(f"the source of {name} broke")

    async def scenario() -> None:
        async with inside_world(SECRET_RULE, secrets=broken) as w:
            assert await w.ask(get("/")) == b""
        assert w.recorder.everything == b""

    in_loop(scenario())
    assert "the source of key broke" in caplog.text and VALUE not in caplog.text


@pytest.mark.parametrize("name", ["X-Original-URL", "X_Rewrite_Url", "Destination", "x-amz-copy-source"])
def test_a_header_that_names_another_path_is_refused_where_the_rules_are_about_paths(name: str) -> None:
    async def scenario() -> None:
        some = replace(SECRET_RULE, paths=("/public/**",))
        async with inside_world(some) as w:
            answer = await w.ask(get("/public/a", extra=f"{name}: /secret\r\n"))
            assert answer.startswith(b"HTTP/1.1 403 ") and b"names another path" in answer
        assert not w.recorder.heads
        async with inside_world(SECRET_RULE) as w:
            answer = await w.ask(get("/public/a", extra=f"{name}: /secret\r\n{CLOSE}"))
            assert answer.startswith(b"HTTP/1.1 200 ") and len(w.recorder.heads) == 1

    in_loop(scenario())
