"""What goes wrong around the gateway: a full disk, a clock that jumps, very many connections. Nobody else suffers."""

from __future__ import annotations

import asyncio
import datetime
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gateway_world import DEADLINE_S, client_hello, echo, in_loop, until, world
from inside_world import CLOSE, HOST, LOOK, SECRET_RULE, get, guest_authority, inside_world

from engine.gateway.limits import Limits
from engine.gateway.rules import Rule

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

FULL_DISK = """
import asyncio, json, pathlib, resource, sys
from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.gateway.server import start_gateway

REQUEST = b"GET / HTTP/1.1\\r\\nHost: b.example\\r\\n\\r\\n"

async def run(directory):
    journal = Journal(directory / "journal")
    async with start_gateway(Policy([]), directory, journal) as gateway:
        async def ask():
            reader, writer = await asyncio.open_unix_connection(str(gateway.sockets[80]))
            writer.write(REQUEST)
            assert (await reader.read(-1)).startswith(b"HTTP/1.1 403 ")
            writer.close()
        await ask()
        one = journal.path.stat().st_size
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (one * 3 + one // 2, hard))  # as a disk that has no more room
        await asyncio.gather(*(ask() for _ in range(10)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await ask()
    journal.close()

asyncio.run(run(pathlib.Path(sys.argv[1])))
"""


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=50)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]  # none of them is torn
    assert [line["host"] for line in lines] == ["b.example"] * 3 + [None, "b.example"]
    assert lines[3]["reason"] == "lines that could not be written before this one: 8"


@pytest.mark.parametrize("seconds", [40 * 86400.0, -40 * 86400.0])
def test_a_clock_that_jumps_ends_no_connection(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        half = asyncio.Event()

        async def serve(reader: Reader, writer: Writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
            await half.wait()
            writer.write(b"two")

        async with inside_world(LOOK, handler=serve) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/x", extra=CLOSE))
                await reader.readuntil(b"one")
                jump(monkeypatch, seconds)
                half.set()
                assert await reader.read(-1) == b"two"
            (line,) = await w.quiet()
        assert line["verdict"] == "allowed" and 0 <= line["duration_ms"] < 60_000

    in_loop(scenario())


def jump(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The wall clock; the monotonic one does not jump."""
    now, really = time.time, datetime.datetime

    class Jumped(really):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Jumped:  # type: ignore[override]
            return cls.fromtimestamp(now() + seconds, tz)

    monkeypatch.setattr(time, "time", lambda: now() + seconds)
    monkeypatch.setattr("engine.gateway.journal.datetime", Jumped)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.timeout(120)  # on a busy machine
def test_two_thousand_connections_a_third_aborted_leave_nothing_behind() -> None:
    """Ten thousand in bench/gateway_load.py."""

    async def scenario() -> None:
        async with world(Rule(HOST), handler=echo, deadline_s=3 * DEADLINE_S) as w:
            hello = client_hello(HOST)

            async def one(number: int) -> None:
                async with w.guest(443) as (reader, writer):
                    writer.write(hello)
                    if number % 3:
                        await reader.readexactly(len(hello))
                    else:
                        writer.transport.abort()

            sizes = []
            before = descriptors()
            for start in range(0, 2000, 100):
                await asyncio.gather(*(one(number) for number in range(start, start + 100)))
                await until(lambda: w.gateway.connections == 0)
                sizes.append(resident_bytes())
            await until(lambda: descriptors() <= before)
            assert len(w.dialled) > 1300 and len(w.lines()) == 2000
            assert sizes[-1] - sizes[3] < 4 << 20, sizes

    in_loop(scenario())


def test_five_hundred_and_twelve_at_once_and_one_more() -> None:
    async def scenario() -> None:
        asked = 0
        everybody, go = asyncio.Event(), asyncio.Event()

        async def serve(reader: Reader, writer: Writer) -> None:
            nonlocal asked
            data = await reader.readexactly(len(hello))
            asked += 1
            if asked == 512:
                everybody.set()
            await go.wait()
            writer.write(data)

        async with world(Rule(HOST), handler=serve) as w:
            hello = client_hello(HOST)
            if w.gateway._context.limits.connections < 512:
                pytest.skip("this process may not open files enough")

            async def one() -> bytes:
                async with w.guest(443) as (reader, writer):
                    writer.write(hello)
                    return await reader.read(-1)

            tasks = [asyncio.create_task(one()) for _ in range(512)]
            await everybody.wait()
            assert await w.ask(443, b"") == b""  # hung up on at once
            go.set()
            assert await asyncio.gather(*tasks) == [hello] * 512
            lines = await w.quiet()
        assert sum(line["verdict"] == "allowed" for line in lines) == 512
        assert [line["reason"] for line in lines if line["verdict"] == "refused"] == [
            "512 connections are open already"
        ]

    in_loop(scenario())


def test_a_hundred_intercepted_at_once_are_all_answered() -> None:
    async def scenario() -> None:
        async with inside_world(SECRET_RULE) as w:
            answers = await asyncio.gather(*(w.ask(get(f"/{number}", extra=CLOSE)) for number in range(100)))
            assert all(answer.endswith(f"/{number}".encode()) for number, answer in enumerate(answers))
        assert len(w.recorder.heads) == 100

    in_loop(scenario())


@pytest.mark.parametrize("place", ["resolver", "connect", "server", "handshake"])
def test_a_server_that_hangs_anywhere_holds_up_nobody_else(place: str) -> None:
    """One host hangs while names are looked up, while it is connected to, after that, or within its TLS."""

    async def scenario() -> None:
        never = asyncio.Event()

        async def serve(reader: Reader, writer: Writer) -> None:
            first = await reader.read(65536)
            if place == "server" and b"slow.example.com" in first:
                await never.wait()
            writer.write(first)

        limits = Limits(resolve_s=1.0, connect_s=1.0, handshake_s=1.0, head_s=1.0, idle_s=1.0)
        slow = Rule("slow.example.com", intercept=place == "handshake")
        authority = guest_authority()
        async with world(Rule(HOST), slow, handler=serve, limits=limits, authority=authority) as w:
            context, other = w.gateway._context, client_hello(HOST)
            resolver, connect = context.resolver, context.connect

            async def resolve(name: str, port: int) -> object:
                if place == "resolver" and name == "slow.example.com":
                    await never.wait()
                w.addresses["slow.example.com"] = ["203.0.113.99"]
                return await resolver(name, port)

            async def dial(address: str, port: int) -> object:
                if place in ("connect", "handshake") and address == "203.0.113.99":
                    await never.wait()
                return await connect(address, port)

            context.resolver, context.connect = resolve, dial  # type: ignore[assignment]
            async with w.guest(443) as (reader, writer):
                writer.write(client_hello("slow.example.com"))
                hanging = asyncio.create_task(reader.read(-1))
                count = 0
                while not hanging.done():
                    async with w.guest(443) as (other_reader, other_writer):
                        other_writer.write(other)
                        assert await other_reader.readexactly(len(other)) == other
                        count += 1
                await hanging
            lines = await w.quiet()
        (line,) = [line for line in lines if line["host"] == "slow.example.com"]
        reasons = {
            "resolver": "cannot resolve slow.example.com: no answer in time",
            "connect": "cannot connect to slow.example.com:443: 203.0.113.99: no answer in time",
            "server": "is allowed by slow.example.com",
            "handshake": "cannot connect to slow.example.com:443: 203.0.113.99: no answer in time",
        }
        assert reasons[place] in line["reason"] and count > 1
        assert {line["verdict"] for line in lines if line["host"] == HOST} == {"allowed"}

    in_loop(scenario())
