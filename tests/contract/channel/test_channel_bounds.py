"""A hostile guest against whoever reads it: what it sends is refused or held within bounds, and others are served.

Counted are the bytes that wait in buffers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from vmm.channel.client import connect
from vmm.channel.conduct import ANSWER_LIMIT
from vmm.channel.copy import copy_in, copy_out
from vmm.channel.errors import GuestError
from vmm.channel.greeting import read_hello
from vmm.channel.guest import GuestChannel
from vmm.channel.relay import Client, Handler, Relay
from vmm.channel.stream import LocalStream
from vmm.guest.guestd.wire import (
    CREDIT,
    DATA,
    EOF,
    HELLO,
    HELLO_OK,
    MORE,
    NONCE_SIZE,
    OPEN,
    PROTOCOL,
    RESULT,
    WINDOW,
    Decoder,
    Frame,
    encode_credit,
    encode_frame,
    encode_message,
    encode_request,
)

T = 50.0
MB = 1 << 20
BOUND = ANSWER_LIMIT + 4 * WINDOW  # for one stream, whatever is sent
GREETING = {"version": "1", "protocol": PROTOCOL, "boot_id": "b", "kernel": "k", "hostname": "h"}


class Guest:
    """The far end of a channel, that says hello and otherwise what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()

    async def serve(self) -> None:
        decoder = Decoder()
        while data := await self.reader.read(1 << 18):
            for frame in decoder.feed(data):
                if frame.kind == HELLO:
                    answer = frame.payload[:NONCE_SIZE] + json.dumps(GREETING).encode()
                    self.writer.write(encode_frame(0, HELLO_OK, 0, answer))
                else:
                    self.frames.put_nowait(frame)

    async def asked(self) -> int:
        """The number of the next stream that is opened."""
        while (frame := await self.frames.get()).kind != OPEN:
            pass
        return frame.stream

    async def flood(self, frame: bytes, total: int) -> None:
        batch = frame * max(1, MB // len(frame))
        for _ in range(max(1, total // len(batch))):
            self.writer.write(batch)
            await self.writer.drain()


@contextlib.asynccontextmanager
async def hostile(
    handlers: dict[str, Handler] | None = None,
) -> AsyncIterator[tuple[Guest, GuestChannel, Relay, Path, list[Client]]]:
    """A guest, the supervisor's channel to it, the relay, its socket, and the relay's clients, by their coming."""
    clients: list[Client] = []

    class Watched(Client):
        def __init__(self, relay: Relay, writer: asyncio.StreamWriter) -> None:
            super().__init__(relay, writer)
            clients.append(self)

    ours, theirs = socket.socketpair()
    guest = Guest(*await asyncio.open_connection(sock=theirs))
    serving = asyncio.create_task(guest.serve())
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmm.channel.relay.Client", Watched)
        path = Path(directory) / "control"
        try:
            async with asyncio.timeout(T), GuestChannel(*await asyncio.open_connection(sock=ours)) as channel:
                await channel.hello(T)
                async with Relay(channel, path, handlers) as relay:
                    yield guest, channel, relay, path, clients
        finally:
            guest.writer.close()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@contextlib.asynccontextmanager
async def standing_still(path: Path, op: str = "exec", streams: int = 1) -> AsyncIterator[socket.socket]:
    """A client that asks and reads nothing, as a stopped one does."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(encode_frame(0, HELLO, 0, bytes(NONCE_SIZE)))
        for number in range(1, streams + 1):
            client.sendall(encode_message(number, OPEN, encode_request(op, {"argv": ["x"]})))
        yield client


def in_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def read_frames(client: socket.socket) -> list[Frame]:
    """What waits for a client, to the end of a RESULT on stream 1."""
    client.settimeout(T)
    decoder, frames = Decoder(), []
    while data := client.recv(1 << 18):
        frames += decoder.feed(data)
        if any(frame.stream == 1 and frame.kind == RESULT and frame.sub != MORE for frame in frames):
            break
    return frames


KINDS = [*range(1, 11), 99]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "total"), [(65536, 100 * MB), (4, 2 * MB), (1, 2 * MB), (0, 2 * MB)])
@pytest.mark.parametrize("sub", [1, MORE + 1])
def test_a_client_that_stands_still_costs_a_window(kind: int, size: int, total: int, sub: int) -> None:
    """Whatever the guest sends for it, and how much of it."""

    async def scenario() -> None:
        async with hostile() as (guest, channel, _, path, clients):
            async with standing_still(path):
                number = await guest.asked()
                flooding = asyncio.create_task(guest.flood(encode_frame(number, kind, sub, b"\1" * size), total))
                other = asyncio.create_task(channel.call("ping", T))
                answered = await guest.asked()
                await flooding
                guest.writer.write(encode_message(answered, RESULT, b'{"ok": {"here": true}}'))
                assert await other == {"here": True}  # so all of it has arrived
                assert clients[0].held <= BOUND
            await asyncio.sleep(0)

    in_loop(scenario)


def test_bytes_one_by_one_cost_what_they_are_worth(tmp_path: Path) -> None:
    """A lawful program may write single bytes to both of its streams; not one of them is lost by that."""

    async def scenario() -> None:
        async with hostile() as (guest, channel, _, path, clients):
            async with standing_still(path) as client:
                number = await guest.asked()
                both = encode_frame(number, DATA, 1, b"o") + encode_frame(number, DATA, 2, b"e")
                await guest.flood(both, len(both) * WINDOW // 2)
                sent = MB // len(both) * 2  # in whole batches
                other = asyncio.create_task(channel.call("ping", T))
                guest.writer.write(encode_message(await guest.asked(), RESULT, b'{"ok": {}}'))
                await other
                held = clients[0].held
                passages = [stream for stream in clients[0].streams.values()]
                assert passages[0]._backlog.pieces <= 300  # type: ignore[union-attr]
                assert held <= 2 * WINDOW
                guest.writer.write(encode_message(number, RESULT, b'{"ok": {"code": 0}}'))
                frames = await asyncio.to_thread(read_frames, client)
                output = {1: b"", 2: b""}
                for frame in frames:
                    if frame.kind == DATA:
                        output[frame.sub] += frame.payload
                assert output[1] == b"o" * len(output[1]) and output[2] == b"e" * len(output[1])
                assert len(output[1]) >= sent // 2

    in_loop(scenario)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([(EOF, 0, b"x")], "EOF of 1 bytes"),
        ([(EOF, 0, b""), (EOF, 0, b"")], "EOF of 0 bytes"),
        ([(EOF, 0, b""), (DATA, 1, b"x")], "DATA of 1 bytes"),
        ([(DATA, 1, b"")], "DATA of 0 bytes"),
        ([(DATA, 3, b"x")], "DATA of 1 bytes"),
        ([(CREDIT, 0, b"\0\0\0\1")], "CREDIT for what it was not sent"),
        ([(CREDIT, 0, b"\0\0\0")], "CREDIT"),
        ([(RESULT, MORE, b"")], "part of a RESULT that is too short"),
        ([(RESULT, MORE, b"x" * 65536)] * 17, "too long"),
        ([(OPEN, 0, b"exec\n{}")], "a frame of kind 4"),
        ([(99, 0, b"")], "a frame of kind 99"),
    ],
)
def test_what_is_against_the_rules_cuts_the_stream(frames: list[tuple[int, int, bytes]], said: str) -> None:
    """In the relay and in a stream of the supervisor's own alike; others go on."""

    async def scenario() -> None:
        async with hostile() as (guest, channel, _, path, _):
            async with await connect(path) as client:
                for asker in (channel, client):
                    asking = asyncio.create_task(asker.call("ping", T))
                    number = await guest.asked()
                    for kind, sub, payload in frames:
                        guest.writer.write(encode_frame(number, kind, sub, payload))
                    with pytest.raises(GuestError) as caught:
                        await asking
                    assert said in f"{caught.value.brief} {caught.value.details}"
                    asking = asyncio.create_task(asker.call("ping", T))
                    guest.writer.write(encode_message(await guest.asked(), RESULT, b'{"ok": {"fine": 1}}'))
                    assert await asking == {"fine": 1}

    in_loop(scenario)


def test_lawful_credit_passes_and_no_more_of_it_than_was_sent() -> None:
    async def scenario() -> None:
        async with hostile() as (guest, _, _, path, _):
            async with await connect(path) as client:
                stream = client.open_stream("exec", {"argv": ["cat"], "stdin": True})
                number = await guest.asked()
                sending = asyncio.create_task(stream.send(bytes(3 * WINDOW)))
                got = 0
                while got < 3 * WINDOW:
                    frame = await guest.frames.get()
                    assert frame.kind == DATA
                    got += len(frame.payload)
                    guest.writer.write(encode_credit(number, len(frame.payload)))
                await sending
                guest.writer.write(encode_credit(number, 1))
                with pytest.raises(GuestError, match="against the rules"):
                    await stream.receive()

    in_loop(scenario)


def test_a_guest_that_reads_nothing_is_not_read_either() -> None:
    """Answers to it, such as credit, would pile up."""

    async def scenario() -> None:
        async with hostile() as (guest, channel, _, _, _):
            guest.reader._transport.pause_reading()  # type: ignore[attr-defined]
            # What is asked of it fills the socket, then a megabyte of ours; what it says then stays on its side.
            calls = [asyncio.create_task(channel.call("ping", 1.0, junk="x" * MB)) for _ in range(4)]
            await asyncio.sleep(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(guest.flood(encode_frame(7, DATA, 1, b"x"), 8 * MB), 2)
            assert guest.writer.transport.get_write_buffer_size() > 0
            assert channel._writer.transport.get_write_buffer_size() < 6 * MB
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(one, GuestError) for one in done)

    in_loop(scenario)


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(77777, DATA, 1, b"x" * 65536),
        encode_frame(0, HELLO, 0, b"x" * 65536),
        encode_frame(0, HELLO_OK, 0, b"x" * 65536),
        encode_frame(77777, OPEN, 0, b"exec\n{}"),
        b"\xf5SBX" * 16384,
        b"garbage " * 8192,
    ],
    ids=["no stream", "HELLO", "HELLO_OK", "OPEN", "magic", "garbage"],
)
def test_what_is_for_nobody_is_not_kept(frame: bytes) -> None:
    async def scenario() -> None:
        async with hostile() as (guest, channel, _, path, clients):
            async with standing_still(path):
                await guest.asked()
                await guest.flood(frame, 20 * MB)
                assert (await channel.hello(T)).kernel == "k"  # so all of it has arrived
                assert clients[0].held <= BOUND
                assert len(channel._decoder._buffer) <= 2 * 65536
                assert not channel._sinks

    in_loop(scenario)


@pytest.mark.parametrize(
    ("answer", "lacks"),
    [
        ({}, "kind"),
        ({"kind": "file"}, "directory"),
        ({"directory": True}, "kind"),
        ({"kind": None, "directory": False}, "kind"),
        ({"kind": ["file"], "directory": False}, "kind"),
        ({"kind": "file", "directory": "no"}, "directory"),
        ({"kind": "file", "directory": 0}, "directory"),
        ({"kind": "x" * 100_000, "directory": False}, "kind"),
        ({"kind": [[[]]] * 1000, "directory": False}, "kind"),
    ],
)
@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_copy_reads_answers_that_may_be_anything(
    tmp_path: Path, answer: dict[str, Any], lacks: str, direction: str
) -> None:
    (tmp_path / "file").write_text("x")

    async def scenario() -> None:
        async with hostile() as (guest, channel, _, _, _):
            source, target = str(tmp_path / "file"), "/somewhere"
            copying = copy_in(channel, source, target) if direction == "in" else copy_out(channel, target, tmp_path)
            task = asyncio.create_task(copying)
            guest.writer.write(encode_message(await guest.asked(), RESULT, json.dumps({"ok": answer}).encode()))
            with pytest.raises(GuestError, match=f"the guest's answer lacks '{lacks}'"):
                await task

    in_loop(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'{"ok": null}',
        b'{"ok": []}',
        b'{"error": null}',
        b'{"error": {"brief": [[[]]], "details": {}, "hint": 7}}',
        b'{"error": {"brief": "' + b"x" * 500_000 + b'", "details": "' + b"y" * 500_000 + b'"}}',
        b'{"error": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"ok": ' + b"[" * 500_000,
        b'{"ok": {"n": ' + b"9" * 5000 + b"}}",
        b"\xff\xfe",
        b"{",
    ],
)
def test_an_answer_may_be_anything(answer: bytes) -> None:
    async def scenario() -> None:
        async with hostile() as (guest, channel, _, path, _):
            async with await connect(path) as client:
                for asker in (channel, client):
                    asking = asyncio.create_task(asker.call("ping", T))
                    guest.writer.write(encode_message(await guest.asked(), RESULT, answer))
                    with pytest.raises(GuestError) as caught:
                        await asking
                    assert len(caught.value.brief) <= 2000 and len(caught.value.details or "") <= 1 << 16

    in_loop(scenario)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": 1e999}, "nonsense"),
        ({"protocol": True}, "nonsense"),
        ({"protocol": -1}, "nonsense"),
        ({"protocol": 10**30}, "nonsense"),
        ({"protocol": None}, "nonsense"),
        ({"version": 1}, "nonsense"),
        ({"kernel": ["k"]}, "nonsense"),
        ({"hostname": "h" * 100_000}, "nonsense"),
        ({"protocol": 2}, "speaks protocol 2"),
    ],
)
def test_a_hello_may_be_anything(change: dict[str, Any], words: str) -> None:
    with pytest.raises(GuestError, match=words):
        read_hello(json.dumps({**GREETING, **change}).encode())


def test_many_streams_of_a_client_that_stands_still() -> None:
    async def scenario() -> None:
        async with hostile() as (guest, channel, _, path, clients):
            async with standing_still(path, streams=5):
                numbers = [await guest.asked() for _ in range(5)]
                for number in numbers:
                    await guest.flood(encode_frame(number, DATA, 1, b"x" * 65536), 10 * MB)
                other = asyncio.create_task(channel.call("ping", T))
                guest.writer.write(encode_message(await guest.asked(), RESULT, b'{"ok": {}}'))
                await other
                assert clients[0].held <= 5 * (WINDOW + 1000) + 4 * WINDOW

    in_loop(scenario)


def test_what_the_supervisor_itself_says_waits_for_the_client() -> None:
    reached = asyncio.Event()

    async def talk(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        while True:
            await stream.send(b"x" * 65536, 1)
            reached.set()

    async def scenario() -> None:
        async with hostile({"talk": talk}) as (_, _, _, path, clients):
            async with standing_still(path, "talk"):
                await reached.wait()
                for _ in range(1000):
                    await asyncio.sleep(0)
                assert clients[0].held <= 2 * WINDOW

    in_loop(scenario)
