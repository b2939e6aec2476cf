"""Protocols that name no host, by a name with an address of its own; and services of the host itself."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import suppress
from dataclasses import replace

import pytest
from gateway_world import PUBLIC, World, client_hello, echo, in_loop, until, world
from inside_world import fields_of, guest_authority

from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.gateway.upstream import LOOPBACK

DB = Rule("db.example.com", 5432, raw=True, origin="endpoints[0]", place="Sandboxfile.yaml:7")
OLLAMA = Rule("ollama", 11434, target="localhost", origin="endpoints[0]")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that speaks first, and answers when its client has said all."""
    writer.write(b"SSH-2.0-server\r\n")
    writer.write(b"got " + hashlib.sha256(await reader.read(-1)).hexdigest().encode())
    await writer.drain()


def test_the_server_may_speak_first_and_each_side_ends_by_itself() -> None:
    async def scenario() -> None:
        data = os.urandom(3_000_000)
        async with world(DB, handler=greeting) as w:
            async with w.guest(5432, "db.example.com") as (reader, writer):
                assert await reader.readline() == b"SSH-2.0-server\r\n", "before the guest has said anything"
                writer.write(data)
                writer.write_eof()
                assert await reader.read(-1) == b"got " + hashlib.sha256(data).hexdigest().encode()
            (line,) = await w.quiet()
        assert (w.resolved, w.dialled) == (["db.example.com"], [(PUBLIC, 5432)])
        assert line.pop("duration_ms") >= 0 and line.pop("time")
        assert line == {
            "sandbox": "shop",
            "verdict": "allowed",
            "protocol": "tcp",
            "host": "db.example.com",
            "port": 5432,
            "rule": "endpoints[0]",
            "place": "Sandboxfile.yaml:7",
            "how": "splice",
            "reason": "db.example.com:5432 is allowed by endpoints[0]",
            "bytes_in": 16 + 68,
            "bytes_out": len(data),
        }

    in_loop(scenario())


def test_whatever_the_guest_says_only_this_name_is_reached() -> None:
    async def scenario() -> None:
        async with world(DB, Rule("other.example.com"), handler=echo) as w:
            for words in (client_hello("other.example.com"), b"GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n"):
                async with w.guest(5432, "db.example.com") as (reader, writer):
                    writer.write(words)
                    writer.write_eof()
                    assert await reader.read(-1) == words
        assert set(w.resolved) == {"db.example.com"}

    in_loop(scenario())


def test_the_shared_address_does_not_lead_to_it() -> None:
    async def scenario() -> None:
        async with world(DB, handler=echo) as w:
            assert sorted(w.gateway.sockets) == [80, 443]
            assert b"403 Forbidden" in await w.ask(80, b"GET / HTTP/1.1\r\nHost: db.example.com\r\n\r\n")
        assert w.dialled == []

    in_loop(scenario())


def test_tls_and_http_are_judged_at_its_address_too() -> None:
    async def scenario() -> None:
        async with world(DB, Rule("db.example.com"), handler=echo) as w:
            hello = client_hello("db.example.com")
            async with w.guest(443, "db.example.com") as (reader, writer):
                writer.write(hello)
                assert await reader.readexactly(len(hello)) == hello
            async with w.guest(443, "db.example.com") as (reader, writer):
                writer.write(client_hello("evil.example.com"))
                assert (await reader.read(-1))[:1] == b"\x15"
        assert w.dialled == [(PUBLIC, 443)]

    in_loop(scenario())


@pytest.mark.parametrize(
    ("rules", "addresses", "words"),
    [
        ((DB, Rule("db.example.com", 5432, deny=True, origin="endpoints[1]")), (PUBLIC,), "denied by endpoints[1]"),
        ((DB, Rule("*.example.com", 5432, deny=True, origin="endpoints[1]")), (PUBLIC,), "denied by endpoints[1]"),
        ((DB, Rule("*.example.com", 5432, methods=("GET",), deny=True)), (PUBLIC,), "denied by"),
        ((DB,), ("10.1.2.3",), "private address"),
        ((DB,), ("127.0.0.1", "::1"), "loopback address"),
        ((DB,), ("169.254.169.254",), "cloud metadata address"),
        ((replace(DB, private=True),), ("127.0.0.1",), "loopback address"),
        ((replace(DB, target="inner.example.com"), Rule("inner.example.com", 5432, deny=True)), (PUBLIC,), "denied by"),
    ],
)
def test_what_is_refused_is_an_end_and_a_line(rules: tuple[Rule, ...], addresses: tuple[str, ...], words: str) -> None:
    async def scenario() -> None:
        async with world(*rules, handler=echo, authority=guest_authority()) as w:
            w.addresses["db.example.com"] = addresses
            async with w.guest(5432, "db.example.com") as (reader, _):
                assert await reader.read(-1) == b""
            (line,) = await w.quiet()
        assert (line["verdict"], line["how"], line["protocol"]) == ("refused", "refuse", "tcp")
        assert words in line["reason"] and w.dialled == []

    in_loop(scenario())


def test_a_name_of_the_private_network_that_is_declared() -> None:
    async def scenario() -> None:
        async with world(replace(DB, private=True), handler=echo) as w:
            w.addresses["db.example.com"] = ["10.1.2.3"]
            async with w.guest(5432, "db.example.com") as (reader, writer):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
        assert w.dialled == [("10.1.2.3", 5432)]

    in_loop(scenario())


def test_nothing_answers_there() -> None:
    async def scenario() -> None:
        async with world(DB, dead=True) as w:
            async with w.guest(5432, "db.example.com") as (reader, _):
                assert await reader.read(-1) == b""
            (line,) = await w.quiet()
        assert line["verdict"] == "failed" and "cannot connect to db.example.com:5432" in line["reason"]

    in_loop(scenario())


def test_silence_ends() -> None:
    async def scenario() -> None:
        async with world(DB, handler=echo, limits=Limits(idle_s=0.1)) as w:
            async with w.guest(5432, "db.example.com") as (reader, _):
                assert await reader.read(-1) == b""

    in_loop(scenario())


def test_a_change_cuts_what_it_takes_away_and_says_what_has_no_door() -> None:
    async def scenario() -> None:
        async with world(DB, Rule("a.example.com"), handler=echo) as w:
            async with w.guest(5432, "db.example.com") as (reader, writer):
                writer.write(b"x")
                await reader.readexactly(1)
                assert w.gateway.set_policy(Policy([DB])) == ()
                writer.write(b"y")
                assert await reader.readexactly(1) == b"y", "what is still allowed goes on"
                assert w.gateway.set_policy(Policy([])) == ()
                assert await reader.read(-1) == b""
            await until(lambda: w.gateway.connections == 0)
            door = next(path for door, path in w.gateway.doors.items() if door.host)
            reader, writer = await asyncio.open_unix_connection(str(door))
            assert await reader.read(-1) == b"", "the door is still there, and leads nowhere"
            writer.close()
            assert w.gateway.set_policy(Policy([DB])) == () and w.gateway.names == {"db.example.com": "10.0.2.101"}
            assert w.gateway.set_policy(Policy([DB, Rule("git.example.com", 22, raw=True)])) == (22,)
            reasons = [line["reason"] for line in await w.quiet()]
        assert reasons == ["no longer allowed; cut off", "no endpoint names db.example.com:5432"]

    in_loop(scenario())


async def ollama(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that answers to localhost only, as many do against DNS rebinding."""
    with suppress(asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            host = fields_of(head)["host"]
            status = "200 Fine" if host == ["localhost:11434"] else "403 Forbidden"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode())


async def ask_ollama(w: World, host: str = "ollama:11434", port: int = 11434) -> bytes:
    return await w.ask(port, f"GET /api/tags HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


def test_a_service_of_the_host_by_a_name_of_its_own() -> None:
    async def scenario() -> None:
        async with world(OLLAMA, handler=ollama) as w:
            assert (await ask_ollama(w)).startswith(b"HTTP/1.1 200 ")
            (line,) = await w.quiet()
        assert (w.dialled, w.resolved) == ([("127.0.0.1", 11434)], []), "nobody is asked for its address"
        said = [line[key] for key in ("host", "port", "path", "rule")]
        assert said == ["ollama", 11434, "/api/tags", "endpoints[0]"]

    in_loop(scenario())


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("localhost:11434", 11434),
        ("127.0.0.1:11434", 11434),
        ("ollama:22", 11434),
        ("ollama", 80),
        ("localhost", 80),
        ("other:11434", 11434),
    ],
)
def test_nothing_else_of_the_host_is_reached(host: str, port: int) -> None:
    async def scenario() -> None:
        async with world(OLLAMA, handler=ollama) as w:
            assert b"HTTP/1.1 4" in await ask_ollama(w, host, port)
        assert w.dialled == w.resolved == []

    in_loop(scenario())


def test_a_denied_service_of_the_host_is_denied_under_each_of_its_names() -> None:
    async def scenario() -> None:
        for name in ("ollama", "localhost"):
            async with world(OLLAMA, Rule(name, 11434, deny=True), handler=ollama) as w:
                assert b"403 Forbidden" in await ask_ollama(w)
            assert w.dialled == []

    in_loop(scenario())


def test_a_service_of_the_host_with_any_protocol() -> None:
    async def scenario() -> None:
        async with world(replace(OLLAMA, host="cache", port=6379, raw=True), handler=echo) as w:
            async with w.guest(6379, "cache") as (reader, writer):
                writer.write(b"PING\r\n")
                assert await reader.readline() == b"PING\r\n"
        assert w.dialled == [("127.0.0.1", 6379)]

    in_loop(scenario())


def test_a_service_of_the_host_that_is_not_there() -> None:
    async def scenario() -> None:
        async with world(OLLAMA, dead=True) as w:
            answer = await ask_ollama(w)
        assert answer.startswith(b"HTTP/1.1 502 ") and b"no service of this host answers on port 11434" in answer
        assert [address for address, _ in w.dialled] == list(LOOPBACK)

    in_loop(scenario())


def test_a_rule_for_any_protocol_is_none_for_the_web_and_the_reverse() -> None:
    async def scenario() -> None:
        async with world(DB, Rule("other.example.com", 5432), handler=echo) as w:
            assert b"403 Forbidden" in await w.ask(5432, b"GET / HTTP/1.1\r\nHost: db.example.com:5432\r\n\r\n")
            door = next(path for door, path in w.gateway.doors.items() if door.host)
            w.gateway.set_policy(Policy([replace(DB, raw=False)]))
            reader, writer = await asyncio.open_unix_connection(str(door))
            assert await reader.read(-1) == b""
            writer.close()
        assert w.dialled == []

    in_loop(scenario())
