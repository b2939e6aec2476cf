"""Which TLS is looked into: asked for, gone around, or hidden from the one who judges (ECH)."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest
from gateway_world import client_hello, echo, in_loop, world
from inside_world import CLOSE, HELD, HOST, KEY, SECRET_RULE, VALUE, Recorder, get, guest_authority, inside_world

from engine.gateway.policy import Policy
from engine.gateway.rules import Rule

ACCESS_DENIED = bytes([21, 3, 3, 0, 2, 2, 49])
ALL = Rule("*.example.com", intercept=True, origin="endpoints[0]")
PINNED = Rule(HOST, bypass=True, origin="endpoints[1]")


def hello_with(name: str, *extensions: tuple[int, bytes]) -> bytes:
    """Python's ClientHello in one record, with further extensions."""
    message = bytearray(client_hello(name)[9:])
    at = 34
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    added = b"".join(kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for kind, data in extensions)
    length = int.from_bytes(message[at : at + 2], "big") + len(added)
    message[at : at + 2] = length.to_bytes(2, "big")
    message += added
    body = b"\x01" + len(message).to_bytes(3, "big") + bytes(message)
    return b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


# As a browser's decoy is built: outer, HKDF-SHA256, AES-128-GCM, a random id, key and payload (RFC 9849, 6.2).
ECH = (0xFE0D, bytes.fromhex("00000100015a0020") + bytes(range(32)) + bytes.fromhex("0090") + bytes(144))

SUPPORTED_VERSIONS = 43
GREASE = (0x3A3A, b"")


def test_one_that_is_bypassed_is_spliced_among_those_that_are_looked_into() -> None:
    async def scenario() -> None:
        hello = client_hello(HOST)
        async with world(ALL, PINNED, handler=echo, authority=guest_authority()) as w:
            assert await w.ask(443, hello, end=True) == hello
            (line,) = await w.quiet()
            assert w.gateway.policy.looks_into("b.example.com", 443)
        assert (line["how"], line["verdict"]) == ("splice", "allowed")

    in_loop(scenario())


@pytest.mark.parametrize(
    "rule", [Rule(HOST, deny=True), Rule("*.example.com", deny=True), Rule(HOST, paths=("/x",), deny=True)]
)
def test_a_bypass_goes_around_no_deny(rule: Rule) -> None:
    async def scenario() -> None:
        async with world(PINNED, rule, handler=echo, authority=guest_authority()) as w:
            assert (await w.ask(443, client_hello(HOST), end=True)) != client_hello(HOST)
            assert [line["how"] for line in await w.quiet()] != ["splice"]

    in_loop(scenario())


def test_a_bypassed_host_gets_no_secret_of_the_wider_endpoint() -> None:
    secret = Rule("*.example.com", injections=(KEY,))
    decision = Policy([secret, PINNED]).judge(HOST, 80, "GET", "/")
    assert decision.allowed and decision.injections == ()
    assert Policy([secret, PINNED]).judge("b.example.com", 443, "GET", "/").injections == (KEY,)


def test_a_bypassed_host_gets_the_guests_own_credentials_and_no_placeholder() -> None:
    async def scenario() -> None:
        secret = Rule("*.example.com", injections=(KEY,))
        async with world(secret, PINNED, handler=Recorder().serve, authority=guest_authority()) as w:
            assert b"200 Fine" in await w.ask(80, get("/", CLOSE + "Authorization: Bearer own\r\n"))
            assert b"403 Forbidden" in await w.ask(80, get("/", CLOSE + f"Authorization: Bearer {HELD}\r\n"))

    in_loop(scenario())


@pytest.mark.parametrize("extensions", [[ECH], [ECH, GREASE], [GREASE, ECH], [(0xFFCE, bytes(300))]])
@pytest.mark.parametrize("rule", [Rule(HOST), PINNED])
def test_a_hello_that_may_hide_a_name_is_refused_where_it_is_spliced(
    rule: Rule, extensions: list[tuple[int, bytes]]
) -> None:
    async def scenario() -> None:
        async with world(rule, handler=echo) as w:
            assert await w.ask(443, hello_with(HOST, *extensions)) == ACCESS_DENIED
            (line,) = await w.quiet()
        assert w.dialled == w.resolved == [] and (line["verdict"], line["how"]) == ("refused", "refuse")
        assert "(ECH)" in line["reason"] and "`ech: allow`" in line["reason"]

    in_loop(scenario())


def test_it_passes_where_the_endpoint_lets_it() -> None:
    async def scenario() -> None:
        hello = hello_with(HOST, ECH)
        async with world(Rule(HOST, ech=True), handler=echo) as w:
            assert await w.ask(443, hello, end=True) == hello

    in_loop(scenario())


def test_a_further_hello_must_not_begin_to_hide_it() -> None:
    async def scenario() -> None:
        first, further = client_hello(HOST), hello_with(HOST, ECH)
        async with world(Rule(HOST), handler=silent) as w:
            async with w.guest(443) as (reader, writer):
                writer.write(first + further)
                assert await reader.read(-1) == ACCESS_DENIED
            (line,) = await w.quiet()
        assert line["verdict"] == "refused" and "a further ClientHello may hide" in line["reason"]

    in_loop(scenario())


def test_where_tls_is_looked_into_the_name_that_can_be_read_is_the_one_that_is_reached() -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE) as w:
            async with w.plain.guest(443) as (reader, writer):
                writer.write(hello_with(HOST, ECH))
                assert (await reader.readexactly(1)) == b"\x16", "a ServerHello of ours: the decoy is not ours to open"
            assert (await w.ask(get("/v1", CLOSE))).startswith(b"HTTP/1.1 200 ")
        assert VALUE.encode() in w.recorder.everything
        assert b"\xfe\x0d" not in w.recorder.everything

    in_loop(scenario())


def test_where_the_sandbox_has_a_certificate_the_guest_is_told_why() -> None:
    """Python offers no encrypted hello, so an extension that it does send stands for one."""

    async def scenario() -> None:
        async with inside_world(Rule(HOST)) as w:
            answer = await w.ask(get("/v1", CLOSE))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 403 ") and b"(ECH)" in answer and b"`intercept: true`" in answer
        assert (line["verdict"], line["how"]) == ("refused", "refuse") and w.recorder.everything == b""

    with mock.patch("engine.gateway.clienthello._HIDDEN", frozenset({SUPPORTED_VERSIONS})):
        in_loop(scenario())
