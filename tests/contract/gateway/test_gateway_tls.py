from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from gateway_world import PUBLIC, client_hello, echo, in_loop, until, world

from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule

ACCESS_DENIED = bytes([21, 3, 3, 0, 2, 2, 49])
INTERNAL_ERROR = bytes([21, 3, 3, 0, 2, 2, 80])
ALLOW = Rule("api.example.com", origin="endpoints[0]", place="Sandboxfile.yaml:7")


def test_an_allowed_name_is_spliced_untouched_and_journalled() -> None:
    async def scenario() -> None:
        hello = client_hello("api.example.com")
        async with world(ALLOW, handler=echo) as w:
            assert await w.ask(443, hello + b"more", end=True) == hello + b"more"
            (line,) = await w.quiet()
        assert w.dialled == [(PUBLIC, 443)]
        duration, time = line.pop("duration_ms"), line.pop("time")
        assert duration >= 0 and time.endswith("Z")
        assert line == {
            "sandbox": "shop",
            "verdict": "allowed",
            "protocol": "tls",
            "host": "api.example.com",
            "port": 443,
            "rule": "endpoints[0]",
            "place": "Sandboxfile.yaml:7",
            "how": "splice",
            "reason": "api.example.com:443 is allowed by endpoints[0]",
            "bytes_in": len(hello) + 4,
            "bytes_out": len(hello) + 4,
        }

    in_loop(scenario())


@pytest.mark.parametrize("name", ["other.example.com", "example.com", None])
def test_any_other_name_gets_an_alert_and_no_look_up(name: str | None) -> None:
    async def scenario() -> None:
        async with world(ALLOW, handler=echo) as w:
            async with w.guest(443) as (reader, writer):
                writer.write(client_hello(name))
                assert await reader.read(-1) == ACCESS_DENIED
                (line,) = w.lines()  # at once, not when the guest hangs up
            assert (line["verdict"], line["host"], line["bytes_out"]) == ("refused", name, 0)
        assert w.dialled == w.resolved == []

    in_loop(scenario())


def test_a_port_that_the_rule_does_not_name_is_refused() -> None:
    async def scenario() -> None:
        async with world(ALLOW, Rule("db.example.com", port=8443), handler=echo) as w:
            assert sorted(w.gateway.sockets) == [80, 443, 8443]
            assert await w.ask(8443, client_hello("api.example.com")) == ACCESS_DENIED
            assert await w.ask(443, client_hello("db.example.com")) == ACCESS_DENIED
            hello = client_hello("db.example.com")
            assert await w.ask(8443, hello, end=True) == hello
        assert w.dialled == [(PUBLIC, 8443)]

    in_loop(scenario())


def test_what_no_rule_speaks_of_is_remembered_until_it_is_taken() -> None:
    async def scenario() -> None:
        async with world(ALLOW, Rule("bad.example.com", deny=True), handler=echo) as w:
            for name in ("a.example.com", "bad.example.com", "a.example.com", None, "b.example.com"):
                assert await w.ask(443, client_hello(name)) == ACCESS_DENIED
            assert w.gateway.take_unnamed() == [("a.example.com", 443), ("b.example.com", 443)]
            assert w.gateway.take_unnamed() == []
            for number in range(60):
                await w.ask(443, client_hello(f"h{number}.example.com"))
            assert len(w.gateway.take_unnamed()) == 50

    in_loop(scenario())


def test_garbage_after_the_first_byte_is_refused() -> None:
    async def scenario() -> None:
        async with world(ALLOW) as w:
            assert await w.ask(443, b"\x16\x03\x01\x00\x05\x02aaaa") == ACCESS_DENIED

    in_loop(scenario())


def test_a_hello_in_pieces_is_read() -> None:
    async def scenario() -> None:
        hello = client_hello("api.example.com")
        async with world(ALLOW, handler=echo) as w:
            async with w.guest(443) as (reader, writer):
                for at in range(len(hello)):
                    writer.write(hello[at : at + 1])
                    await writer.drain()
                    await asyncio.sleep(0)  # let the gateway see the piece by itself
                assert await reader.readexactly(len(hello)) == hello

    in_loop(scenario())


def test_a_dead_upstream_is_an_internal_error_and_failed() -> None:
    async def scenario() -> None:
        async with world(ALLOW, dead=True) as w:
            assert await w.ask(443, client_hello("api.example.com")) == INTERNAL_ERROR
            (line,) = await w.quiet()
        assert line["verdict"] == "failed"
        assert "cannot connect to api.example.com:443" in line["reason"]

    in_loop(scenario())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "not an address",
    ],
)
def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    async def scenario() -> None:
        async with world(ALLOW, handler=echo) as w:
            w.addresses["api.example.com"] = [address]
            assert await w.ask(443, client_hello("api.example.com")) == ACCESS_DENIED
            (line,) = await w.quiet()
        assert w.dialled == []
        assert line["verdict"] == "refused" and address in line["reason"]

    in_loop(scenario())


def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    async def scenario() -> None:
        hello = client_hello("api.example.com")
        async with world(ALLOW, handler=echo) as w:
            w.addresses["api.example.com"] = ["10.0.0.1", "203.0.113.7"]
            assert await w.ask(443, hello, end=True) == hello
        assert w.dialled == [("203.0.113.7", 443)]
        assert w.resolved == ["api.example.com"]  # once: a second answer could be another

    in_loop(scenario())


def test_a_private_mirror_needs_a_rule_that_says_so() -> None:
    async def scenario() -> None:
        hello = client_hello("api.example.com")
        async with world(Rule("api.example.com", private=True), handler=echo) as w:
            w.addresses["api.example.com"] = ["127.0.0.1", "10.0.0.1"]
            assert await w.ask(443, hello, end=True) == hello
        assert w.dialled == [("10.0.0.1", 443)]

    in_loop(scenario())


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_fifty_megabytes_both_ways_with_bounded_memory() -> None:
    size = 50 << 20
    block = os.urandom(1 << 16)

    async def scenario() -> None:
        async with world(ALLOW, handler=echo) as w:
            async with w.guest(443) as (reader, writer):
                hello = client_hello("api.example.com")
                writer.write(hello)
                assert await reader.readexactly(len(hello)) == hello
                before, peak = resident_bytes(), 0
                sent, received = hashlib.sha256(), hashlib.sha256()

                async def send() -> None:
                    for _ in range(size // len(block)):
                        writer.write(block)
                        sent.update(block)
                        await writer.drain()
                    writer.write_eof()

                sending = asyncio.create_task(send())
                got = 0
                while data := await reader.read(1 << 16):
                    received.update(data)
                    got += len(data)
                    peak = max(peak, resident_bytes())
                await sending
                assert got == size
                assert received.digest() == sent.digest()
                assert peak - before < 16 << 20
            (line,) = await w.quiet()
            assert line["bytes_in"] == line["bytes_out"] == size + len(hello)

    in_loop(scenario())


def test_a_side_that_does_not_read_stops_the_other() -> None:
    async def scenario() -> None:
        pushed = 0
        stalled = asyncio.Event()

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal pushed
            writer.transport.set_write_buffer_limits(0)
            while True:
                writer.write(bytes(1 << 16))
                pushed += 1 << 16
                try:
                    async with asyncio.timeout(0.5):
                        await writer.drain()
                except TimeoutError:
                    stalled.set()
                    return

        async with world(ALLOW, handler=flood) as w:
            async with w.guest(443) as (reader, writer):
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                writer.write(client_hello("api.example.com"))
                await stalled.wait()
        assert pushed < 32 << 20  # the kernel's socket buffers and a few chunks

    in_loop(scenario())


def test_the_guest_may_stop_sending_and_go_on_reading() -> None:
    async def after_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(-1)
        writer.write(b"%d bytes" % len(data))

    async def scenario() -> None:
        hello = client_hello("api.example.com")
        async with world(ALLOW, handler=after_eof) as w:
            assert await w.ask(443, hello, end=True) == b"%d bytes" % len(hello)

    in_loop(scenario())


def test_the_upstream_may_stop_sending_and_go_on_reading() -> None:
    async def scenario() -> None:
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write_eof()
            done.set_result(await reader.read(-1))

        hello = client_hello("api.example.com")
        async with world(ALLOW, handler=mute) as w:
            async with w.guest(443) as (reader, writer):
                writer.write(hello)
                assert await reader.read(-1) == b""
                writer.write(b"late")
                writer.write_eof()
                assert await done == hello + b"late"

    in_loop(scenario())


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
def test_a_guest_that_does_not_go_on_is_dropped(sent: bytes) -> None:
    async def scenario() -> None:
        async with world(ALLOW, limits=Limits(head_s=0.1)) as w:
            assert await w.ask(443, sent) == (ACCESS_DENIED if sent else b"")
            (line,) = await w.quiet()
            assert line["verdict"] == ("refused" if sent else "failed")

    in_loop(scenario())


def test_silence_ends_a_spliced_connection() -> None:
    async def scenario() -> None:
        hello = client_hello("api.example.com")
        async with world(ALLOW, handler=echo, limits=Limits(idle_s=0.1)) as w:
            assert await w.ask(443, hello) == hello
            (line,) = await w.quiet()
            assert line["verdict"] == "allowed"

    in_loop(scenario())


def test_connections_beyond_the_limit_are_refused_at_once() -> None:
    async def scenario() -> None:
        async with world(ALLOW, limits=Limits(connections=2)) as w:
            async with w.guest(443), w.guest(80):
                await until(lambda: w.gateway.connections == 2)
                async with w.guest(443) as (reader, _):
                    assert await reader.read(-1) == b""
                (line,) = w.lines()
                assert line["verdict"] == "refused" and "2 connections" in line["reason"]
            await until(lambda: w.gateway.connections == 0)
            assert await w.ask(443, client_hello("other.example.com")) == ACCESS_DENIED

    in_loop(scenario())


def test_a_new_policy_counts_at_once_and_cuts_what_it_forbids() -> None:
    async def scenario() -> None:
        hello, other = client_hello("api.example.com"), client_hello("new.example.com")
        async with world(ALLOW, Rule("stays.example.com"), handler=echo) as w:
            async with w.guest(443) as (cut, writer), w.guest(443) as (kept, kept_writer):
                writer.write(hello)
                await cut.readexactly(len(hello))
                staying = client_hello("stays.example.com")
                kept_writer.write(staying)
                await kept.readexactly(len(staying))

                policy = Policy([Rule("new.example.com"), Rule("stays.example.com"), Rule("x.example.com", port=99)])
                assert w.gateway.set_policy(policy) == (99,)
                assert await cut.read(-1) == b""
                assert await w.ask(443, hello) == ACCESS_DENIED
                assert await w.ask(443, other, end=True) == other
                kept_writer.write(b"still here")
                assert await kept.readexactly(10) == b"still here"
            lines = await w.quiet()
        assert lines[0]["verdict"] == "allowed" and "no longer allowed" in lines[0]["reason"]

    in_loop(scenario())


def test_the_end_leaves_no_task_no_socket_and_a_line_for_each_connection() -> None:
    async def scenario() -> None:
        hello = client_hello("api.example.com")
        async with world(ALLOW, handler=echo) as w:
            paths = list(w.gateway.sockets.values())
            assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
            reader, writer = await asyncio.open_unix_connection(str(w.gateway.sockets[443]))
            idle_reader, idle_writer = await asyncio.open_unix_connection(str(w.gateway.sockets[80]))
            writer.write(hello)
            await reader.readexactly(len(hello))
            journal = w.journal.path.read_text()
            assert journal == ""
            await w.gateway._close()
            assert w.gateway.connections == 0
            assert not any(path.exists() for path in paths)
            assert await reader.read(-1) == await idle_reader.read(-1) == b""
            (line,) = w.lines()
            assert line["verdict"] == "allowed" and line["bytes_in"] == len(hello) and "cut off" in line["reason"]
            for each in (writer, idle_writer):
                each.close()
                await each.wait_closed()

    in_loop(scenario())


def test_cancelling_the_owner_closes_everything() -> None:
    async def scenario() -> None:
        hello = client_hello("api.example.com")
        paths: list[Path] = []
        connected = asyncio.Event()

        async def owner() -> None:
            async with world(ALLOW, handler=echo) as w:
                paths.extend(w.gateway.sockets.values())
                async with w.guest(443) as (reader, writer):
                    writer.write(hello)
                    await reader.readexactly(len(hello))
                    connected.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(owner())
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert paths and not any(path.exists() for path in paths)

    in_loop(scenario())
