"""A guest that no longer waits for its answer holds no connection; one that has only said its last word gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import h11
import pytest
from gateway_world import in_loop, world
from inside_world import HOST, LOOK, SECRET_RULE, get, inside_world
from test_gateway_ends import reset

from engine.gateway.limits import Limits
from engine.gateway.outgoing import Outgoing
from engine.gateway.rules import Rule

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
PATIENT = Limits(idle_s=600.0, half_closed_s=0.2)
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
A_TURN = 1000  # events of HTTP that may be handled before others have their turn; each side of each connection has some


class Silent:
    """A server that takes a request and says nothing. `left` is set when its client has hung up."""

    def __init__(self) -> None:
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked.set()
        await reader.read(-1)
        self.left.set()


@pytest.mark.parametrize("broken", [True, False], ids=["broken off", "closed"])
def test_a_guest_that_has_gone_is_noticed_before_the_server_speaks(broken: bool) -> None:
    async def scenario() -> None:
        server = Silent()
        async with inside_world(LOOK, handler=server.serve, limits=PATIENT) as w:
            async with w.guest() as (_, writer):
                writer.write(get("/x"))
                await server.asked.wait()
                reset(writer) if broken else writer.close()
            (line,) = await w.quiet()  # long before `idle_s`
            await server.left.wait()
        assert ("the guest broke off" if broken else f"{HOST} said nothing for 0.2 s") in line["reason"]

    in_loop(scenario())


def test_the_same_without_tls() -> None:
    async def scenario() -> None:
        server = Silent()
        async with world(Rule(HOST), handler=server.serve, limits=PATIENT) as w:
            async with w.guest(80, HOST) as (_, writer):
                writer.write(get("/x"))
                await server.asked.wait()
                writer.close()
            await w.quiet()
            await server.left.wait()

    in_loop(scenario())


def test_a_guest_that_has_said_its_last_word_gets_its_answer_however_long_that_takes() -> None:
    """Each part comes within `half_closed_s`, all of them do not."""

    async def scenario() -> None:
        parts = 8

        async def serve(reader: Reader, writer: Writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % parts)
            for _ in range(parts):
                await asyncio.sleep(0.3)
                writer.write(b"x")

        limits = Limits(idle_s=600.0, half_closed_s=2.0)
        async with world(Rule(HOST), handler=serve, limits=limits) as w:
            answer = await w.ask(80, get("/x"), end=True)
        assert answer.endswith(b"\r\n\r\n" + b"x" * parts)

    in_loop(scenario())


def test_what_a_guest_sends_while_it_waits_is_its_next_request() -> None:
    async def scenario() -> None:
        first, sent = asyncio.Event(), asyncio.Event()
        seen = []

        async def serve(reader: Reader, writer: Writer) -> None:
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.append(head.split()[1])
                if len(seen) == 1:
                    first.set()
                    await sent.wait()
                writer.write(FINE)
                if len(seen) == 3:
                    return

        async with inside_world(LOOK, handler=serve, limits=PATIENT) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/1"))
                await first.wait()
                writer.write(get("/2")[:10])
                await writer.drain()
                sent.set()
                assert (await reader.readuntil(b"fine")).startswith(b"HTTP/1.1 200")
                writer.write(get("/2")[10:] + get("/3", "Connection: close\r\n"))
                assert (await reader.read(-1)).count(b"fine") == 2
        assert seen == [b"/1", b"/2", b"/3"]

    in_loop(scenario())


@contextmanager
def counted_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many events of HTTP were handled in each turn of the loop."""
    turns = [0]
    really = h11.Connection.next_event

    def next_event(self: h11.Connection) -> object:
        turns[-1] += 1
        return really(self)

    async def count() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    monkeypatch.setattr(h11.Connection, "next_event", next_event)
    counting = asyncio.create_task(count())
    try:
        yield turns
    finally:
        counting.cancel()


@pytest.mark.parametrize("back", [False, True], ids=["request", "answer"])
def test_very_small_pieces_leave_a_turn_to_others(back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"

    async def scenario() -> None:
        async def serve(reader: Reader, writer: Writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if back:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces)
                await writer.drain()
                return
            await reader.readuntil(b"\r\n0\r\n\r\n")
            writer.write(FINE)

        async with inside_world(SECRET_RULE, handler=serve) as w:
            async with w.guest() as (reader, writer):
                with counted_events(monkeypatch) as turns:
                    chunked = "" if back else "Transfer-Encoding: chunked\r\n"
                    writer.write(
                        get("/x", f"{chunked}Connection: close\r\n", method="POST") + (b"" if back else pieces)
                    )
                    await reader.read(-1)
        assert sum(turns) > 10_000 and max(turns) < A_TURN

    in_loop(scenario())


@pytest.mark.timeout(60)
def test_a_body_in_single_bytes_is_looked_at_in_time() -> None:
    """Each byte once, or nearly: with the window searched anew for each of them this took minutes."""
    outgoing = Outgoing(["proxy-managed"], HOST)
    body = b"proxy-managed&" * (1 << 14)
    for at in range(len(body)):
        outgoing.look(body[at : at + 1])
