"""What HTTP/2 connections that nobody reads may hold in memory, all of them together; and that the others go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partialmethod
from typing import cast

import h2.events
import hpack
import pytest
from gateway_world import DEADLINE_S, in_loop, until
from h2.settings import SettingCodes
from h2_world import Client, Connection, Server, h2_guest, head
from inside_world import LOOK, SECRET_RULE, VALUE, InsideWorld, inside_world

from engine.gateway import h2relay
from engine.gateway.h2room import Room
from engine.gateway.h2streams import Stream
from engine.gateway.h2windows import LEAST

BLOCK = bytes(1 << 14)
SIZE = 1 << 20  # of each answer
ROOM = 8 << 20
STALLED, STREAMS = 3, 20


class Origin(Server):
    """Answers with `SIZE` bytes, and says how many went out. Takes bodies only where the path is no `/stalled`."""

    def __init__(self) -> None:
        super().__init__(self.respond)
        self.pushed = 0

    async def respond(self, server: Server, connection: Connection, stream: int) -> None:
        request = connection.requests[stream]
        if request.get(":method") == ["POST"]:
            while not request.ended:
                connection.moved.clear()
                await connection.moved.wait()
        connection.respond(stream, end=False)
        for left in range(SIZE // len(BLOCK) - 1, -1, -1):
            await connection.send(stream, BLOCK, end=not left)
            self.pushed += len(BLOCK)

    def take(self, connection: Connection, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            request = connection.requests[event.stream_id]
            if request.get(":path") == ["/stalled"]:
                connection.events.append(event)
                return
        super().take(connection, event)


@dataclass
class Hall:
    w: InsideWorld
    origin: Origin
    room: Room
    clients: list[Client]
    other: Client


@asynccontextmanager
async def hall(size: int = ROOM, stalled: int = STALLED) -> AsyncIterator[Hall]:
    """A gateway with so much room, some connections that open no window for their streams, and one that does."""
    origin = Origin()
    async with inside_world(LOOK, handler=origin.serve, alpn="h2", deadline_s=3 * DEADLINE_S) as w:
        room = w.plain.gateway._context.room = Room(size)
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(h2_guest(w)) for _ in range(stalled)]
            for client in clients:
                client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
                client.flush()
            other = await stack.enter_async_context(h2_guest(w))
            yield Hall(w, origin, room, clients, other)
        await until(lambda: w.plain.gateway.connections == 0)
        assert room.left == size  # all of it came back


async def push(client: Client, number: int, size: int) -> int:
    """Send so much of a body, or as much as the windows let go: how much."""
    sent = 0
    while sent < size and (window := client.h2.local_flow_control_window(number)) > 0:
        piece = min(window, len(BLOCK), size - sent)
        client.h2.send_data(number, BLOCK[:piece])
        client.flush()
        await client.writer.drain()
        sent += piece
    return sent


async def upload(client: Client, size: int) -> None:
    number, sent = client.ask(head("/up", "POST"), end=False), 0
    while sent < size:
        await client.until(lambda: client.h2.local_flow_control_window(number) > 0)
        sent += await push(client, number, size - sent)
    client.h2.end_stream(number)
    client.flush()
    assert len((await client.reply(number)).body) == SIZE


@pytest.mark.timeout(180)  # on a busy machine
def test_answers_that_nobody_reads_are_held_within_the_gateway_s_room() -> None:
    async def scenario() -> None:
        async with hall() as h:
            for client in h.clients:
                for _ in range(STREAMS):
                    client.ask(head("/unread"))
            await until(lambda: len(h.origin.requests) == STALLED * STREAMS)
            for _ in range(4):  # one that is read goes on
                assert len((await h.other.get("/read")).body) == SIZE
            assert h.origin.pushed - 4 * SIZE <= ROOM + STALLED * LEAST
            # Once it is read, what was stopped goes on, to its end.
            first = h.clients[0]
            first.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: SIZE})
            first.h2.increment_flow_control_window(STREAMS * SIZE)
            first.flush()
            for number in first.replies:
                assert len((await first.reply(number)).body) == SIZE

    in_loop(scenario())


@pytest.mark.timeout(180)  # on a busy machine
def test_bodies_that_no_server_takes_are_held_within_the_gateway_s_room() -> None:
    async def scenario() -> None:
        async with hall() as h:
            numbers = {id(c): [c.ask(head("/stalled", "POST"), end=False) for _ in range(STREAMS)] for c in h.clients}
            await until(lambda: len(h.origin.requests) == STALLED * STREAMS)
            pushed, before = 0, -1
            while pushed > before:
                before = pushed
                for client in h.clients:
                    for number in numbers[id(client)]:
                        pushed += await push(client, number, SIZE)
                    # The answer says that what came before has been read, and with it comes what was opened.
                    seen = len(client.events)
                    client.h2.ping(bytes(8))
                    client.flush()
                    await client.until(
                        lambda: any(isinstance(e, h2.events.PingAckReceived) for e in client.events[seen:])  # noqa: B023
                    )
                await upload(h.other, SIZE)
            assert 0 < pushed <= ROOM + 2 * STALLED * LEAST  # the servers' windows have taken some

    in_loop(scenario())


@pytest.mark.timeout(120)  # on a busy machine
def test_a_connection_goes_on_where_there_is_no_room_at_all() -> None:
    async def scenario() -> None:
        async with hall(0, stalled=0) as h:
            await upload(h.other, SIZE)
            replies = [h.other.ask(head("/read")) for _ in range(3)]
            for number in replies:
                assert len((await h.other.reply(number)).body) == SIZE

    in_loop(scenario())


def test_a_server_that_is_gone_leaves_its_answer_in_the_account() -> None:
    """What it sent is still in memory: a guest that never reads could have it sent again by the next connection."""

    async def scenario() -> None:
        async with hall(8 * ROOM, stalled=1) as h:
            h.clients[0].ask(head("/unread"))
            await until(lambda: len(h.w.plain.lines()) == 1)  # the answer is whole, and waits
            before = h.room.left
            assert before <= 8 * ROOM - SIZE + LEAST
            h.origin.connections[0].writer.transport.abort()
            await until(lambda: h.room.left != before)
            assert h.room.left == 8 * ROOM - SIZE

    in_loop(scenario())


@pytest.mark.timeout(120)  # on a busy machine
def test_heads_are_not_kept_for_a_server_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest may cancel a request at once and send the next: no window stops the heads of those."""
    monkeypatch.setattr(h2relay, "_MOST_UNREAD", 1 << 18)
    # Megabytes of heads, as the kernel takes the first of them, would be a minute's work for hpack's Huffman code.
    monkeypatch.setattr(hpack.Encoder, "encode", partialmethod(hpack.Encoder.encode, huffman=False))

    async def scenario() -> None:
        server = Server(lambda *_: asyncio.sleep(0))
        async with inside_world(LOOK, handler=server.serve, alpn="h2", deadline_s=3 * DEADLINE_S) as w:
            async with h2_guest(w) as client:
                kept = client.ask(head("/first"))
                await until(lambda: len(server.requests) == 1)
                server.reading.clear()
                refused: list[int] = []
                for turn in range(900):
                    number = client.ask([*head(), ("x-long", os.urandom(7500).hex())])
                    if turn % 20:
                        client.h2.reset_stream(number, 8)
                        client.flush()
                        continue
                    seen = len(client.events)
                    client.h2.ping(bytes(8))
                    client.flush()
                    await client.until(
                        lambda: any(isinstance(e, h2.events.PingAckReceived) for e in client.events[seen:])  # noqa: B023
                    )
                    refused = [n for n, reply in client.replies.items() if reply.reset == 7]
                    if refused:
                        break
                assert refused and client.replies[kept].reset is None
                server.reading.set()

    in_loop(scenario())


def test_what_was_held_back_of_an_answer_that_is_cut_is_given_back() -> None:
    """Its end may be the beginning of a secret's value; nobody will see whether it is."""
    start = VALUE[:12].encode()

    async def answer(server: Server, connection: Connection, stream: int) -> None:
        connection.respond(stream, b"x" + start, end=False)

    async def scenario() -> None:
        server = Server(answer)
        async with inside_world(SECRET_RULE, handler=server.serve, alpn="h2") as w:
            async with h2_guest(w) as client:
                number = client.ask(head("/"))
                await client.until(lambda: bytes(client.replies[number].body) == b"x")
                (stream,) = cast(list[Stream], list(w.plain.gateway._context.live.values()))
                side, _ = stream.streams._guest.partner[number]
                assert side.windows._held == len(start)
                client.h2.reset_stream(number, 8)
                client.flush()
                await until(lambda: server.requests[0].reset == 8)
                assert side.windows._held == 0

    in_loop(scenario())
