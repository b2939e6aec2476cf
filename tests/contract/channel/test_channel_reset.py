from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any

import pytest

from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.guest.guestd.wire import (
    DATA,
    FLUSH,
    HELLO,
    HELLO_OK,
    MAX_PAYLOAD,
    NONCE_SIZE,
    OPEN,
    PROTOCOL,
    RESTARTED,
    RESULT,
    STDOUT,
    WINDOW,
    Decoder,
    Frame,
    encode_frame,
    encode_message,
    encode_request,
)

T = 20.0


async def connect(end: socket.socket) -> GuestChannel:
    """A host's channel on a copy of the port's descriptor, so that closing it is not the end of the port."""
    channel = GuestChannel(*await asyncio.open_connection(sock=end.dup()))
    await channel.hello(T)
    return channel


@pytest.mark.parametrize("cut", [1, 7, 18, 19, 500, 40_000])
def test_a_new_host_takes_over_whatever_half_frame_is_in_the_pipe(harness: Any, cut: int) -> None:
    async def scenario() -> None:
        with harness.launch_guestd() as (_, end):
            first = await connect(end)
            stream = first.open_stream(
                "exec", {"argv": ["sh", "-c", "echo $$; exec sleep 1000"], "user": os.geteuid(), "stdin": True}
            )
            chunk = await stream.receive()
            assert chunk
            pid = int(chunk[1])
            first.write(encode_frame(stream.number, DATA, 0, b"SBX" * 20_000)[:cut])
            await first.close()
            second = await connect(end)
            done = await second.run(["echo", "hi"], user=os.geteuid(), timeout_s=T)
            assert done.stdout == b"hi\n"
            await harness.wait_until(lambda: not harness.is_alive(pid))
            await second.close()

    asyncio.run(scenario())


def test_a_new_host_skips_what_was_sent_to_the_previous_one(harness: Any) -> None:
    async def scenario() -> None:
        with harness.launch_guestd() as (_, end):
            first = await connect(end)
            # Its output fills the socket and leaves half a frame in guestd, as nobody reads here ...
            first._reader._transport.pause_reading()  # type: ignore[attr-defined]
            first.open_stream("exec", {"argv": ["yes"], "user": os.geteuid()})
            second_end = end.dup()
            second_end.setblocking(True)
            second_end.settimeout(T)
            second_end.recv(777, socket.MSG_WAITALL)  # ... and the new host comes in the middle of a frame
            second_end.close()
            second = await connect(end)
            assert (await second.call("ping", T))["protocol"] == PROTOCOL
            await first.close()
            await second.close()

    asyncio.run(scenario())


def test_hello_again_on_the_same_connection_ends_what_ran(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            async with guestd.channel.open_exec(
                ["sh", "-c", "echo $$; exec cat"], user=os.geteuid(), stdin=True
            ) as old:
                async for _, data in old:
                    pid = int(data)
                    break
                await guestd.channel.hello(T)
                with pytest.raises(GuestError, match="reset"):
                    await old.wait()
                await harness.wait_until(lambda: not harness.is_alive(pid))
            assert (await guestd.channel.run(["true"], user=os.geteuid(), timeout_s=T)).code == 0

    asyncio.run(scenario())


def test_guestd_survives_malformed_frames(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            channel: GuestChannel = guestd.channel
            for junk in (
                b"no frame at all" * 5000,
                encode_frame(901, 99, 9, b"unknown kind"),
                encode_frame(902, OPEN, 0, b"exec\n{not json"),
                encode_frame(903, OPEN, 0, b"exec\n" + b"[" * 60_000),
                encode_frame(904, OPEN, 0, b"exec\n[]"),
                encode_frame(905, OPEN, 0, b'exec\n{"argv": 7}'),
                encode_frame(906, OPEN, 0, b'\xff\xfe\n{"a": 1}'),
                encode_frame(907, DATA, 0, b"for no stream"),
                encode_frame(0, 7, 0, b""),
            ):
                channel.write(junk)
            stream = channel.open_stream("exec", {"argv": ["cat"], "stdin": True, "user": os.geteuid()})
            channel.write(encode_frame(stream.number, 7, 0, b"bad credit"))
            channel.write(encode_frame(stream.number, 8, 0, b"bad control"))
            channel.write(encode_frame(stream.number, 8, 0, b'{"signal": "x", "resize": 7}'))
            await stream.send(b"still here")
            stream.send_eof()
            assert await stream.receive() == (STDOUT, b"still here")
            with pytest.raises(GuestError, match="no operation 'nonsense'"):
                await channel.call("nonsense", T)

    asyncio.run(scenario())


def test_input_beyond_the_window_ends_the_stream_only(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as guestd:
            channel: GuestChannel = guestd.channel
            stream = channel.open_stream("exec", {"argv": ["sleep", "1000"], "stdin": True, "user": os.geteuid()})
            for _ in range(WINDOW // 65536 + 3):
                channel.write(encode_frame(stream.number, DATA, 0, bytes(65536)))
            with pytest.raises(GuestError, match="window"):
                await stream.result()
            assert (await channel.run(["true"], user=os.geteuid(), timeout_s=T)).code == 0

    asyncio.run(scenario())


def test_long_requests_and_answers_go_in_several_frames(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_client() as (_, client):
            env = {"LONG": "x" * 100_000}
            done = await client.run(["sh", "-c", "echo ${#LONG}"], env=env, user=os.geteuid(), timeout_s=T)
            assert done.stdout == b"100000\n"
            with pytest.raises(GuestError, match="at most"):
                await client.call("ping", T, junk="x" * (9 << 20))

    asyncio.run(scenario())


class FakeGuestd:
    """The other end of a channel, under the test's control."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = Decoder()
        self._frames: list[Frame] = []

    async def frame(self) -> Frame:
        while not self._frames:
            self._frames = self._decoder.feed(await self.reader.read(65536))
        return self._frames.pop(0)

    async def greet(self, **changes: Any) -> None:
        frame = await self.frame()
        assert frame.kind == HELLO
        hello = {"version": "1", "protocol": PROTOCOL, "boot_id": "b", "kernel": "k", "hostname": "h", **changes}
        self.writer.write(encode_frame(0, HELLO_OK, 0, frame.payload[:NONCE_SIZE] + json.dumps(hello).encode()))


def with_fake(scenario: Any) -> None:
    async def body() -> None:
        ours, theirs = socket.socketpair()
        fake = FakeGuestd(*await asyncio.open_connection(sock=theirs))
        async with GuestChannel(*await asyncio.open_connection(sock=ours)) as channel:
            try:
                async with asyncio.timeout(T):
                    await scenario(channel, fake)
            finally:
                fake.writer.close()

    asyncio.run(body())


def test_no_answer_to_hello() -> None:
    async def scenario(channel: GuestChannel, fake: FakeGuestd) -> None:
        with pytest.raises(GuestError, match="did not answer"):
            await channel.hello(0.05)
        fake.writer.close()
        with pytest.raises(GuestError, match=r"gone|broke"):
            await channel.hello(T)

    with_fake(scenario)


def test_hello_of_another_protocol_or_nonsense() -> None:
    async def scenario(channel: GuestChannel, fake: FakeGuestd) -> None:
        for changes, words in (({"protocol": 99}, "protocol 99"), ({"protocol": []}, "nonsense")):
            greeting = asyncio.create_task(fake.greet(**changes))
            with pytest.raises(GuestError, match=words):
                await channel.hello(T)
            await greeting

    with_fake(scenario)


def test_garbage_with_another_hosts_frames_before_the_answer() -> None:
    async def scenario(channel: GuestChannel, fake: FakeGuestd) -> None:
        old = encode_frame(5, DATA, 1, b"of before")
        fake.writer.write(old[10:] + old + encode_frame(0, HELLO_OK, 0, bytes(NONCE_SIZE) + b"{}") + old[:-3])
        greeting = asyncio.create_task(fake.greet())
        assert (await channel.hello(T)).kernel == "k"
        await greeting

    with_fake(scenario)


@pytest.mark.parametrize("cut", [1, 18, 30])
def test_a_second_answer_to_a_hello_that_was_repeated(cut: int) -> None:
    """It comes in pieces, the first of them before anybody has heard of the first answer."""

    async def scenario(channel: GuestChannel, fake: FakeGuestd) -> None:
        async def greet_twice() -> None:
            frame = await fake.frame()
            hello = {"version": "1", "protocol": PROTOCOL, "boot_id": "b", "kernel": "k", "hostname": "h"}
            answer = encode_frame(0, HELLO_OK, 0, frame.payload[:NONCE_SIZE] + json.dumps(hello).encode())
            # Both are there when the channel reads, so that it does not pause between them.
            channel._reader.feed_data(answer + answer[:cut])
            channel._reader._wakeup_waiter()  # type: ignore[attr-defined]
            fake.writer.write(answer[cut:])

        greeting = asyncio.create_task(greet_twice())
        await channel.hello(T)
        await greeting
        calling = asyncio.create_task(channel.call("ping", T))
        frame = await fake.frame()
        fake.writer.write(encode_frame(frame.stream, RESULT, 0, b'{"ok": {}}'))
        assert await calling == {}

    with_fake(scenario)


@pytest.mark.parametrize(
    ("bytes_sent", "words"),
    [
        (encode_frame(0, RESTARTED), "restarted"),
        (b"garbage" * 10, "garbage"),
        (b"".join(encode_frame(1, RESULT, 1, b" " * 65536) for _ in range(200)), "too long"),
        (encode_frame(1, RESULT, 0, b"[" * 60_000), "cannot be read"),
        (encode_frame(1, RESULT, 0, b'{"ok": 3}'), "no error"),
        (encode_frame(1, RESULT, 0, b'{"ok": {"code": "zero"}}'), "no exit code"),
        (encode_frame(1, RESULT, 0, b'{"error": {"brief": 7, "hint": "h"}}'), "7"),
    ],
)
def test_a_hostile_guest_gets_an_error_and_no_memory(bytes_sent: bytes, words: str) -> None:
    async def scenario(channel: GuestChannel, fake: FakeGuestd) -> None:
        greeting = asyncio.create_task(fake.greet())
        await channel.hello(T)
        await greeting
        async with channel.open_exec(["true"]) as command:
            fake.writer.write(bytes_sent)
            with pytest.raises(GuestError, match=words):
                await command.wait()

    with_fake(scenario)


@pytest.mark.parametrize("cut", [0, 5, 30_000])
def test_a_guestd_that_has_restarted_is_greeted_again(cut: int) -> None:
    """What was asked before has failed, and what is asked then is answered; also where it died in a frame."""
    half = encode_frame(99, DATA, STDOUT, bytes(MAX_PAYLOAD))[:cut] + FLUSH
    words = r"guestd restarted|garbage"

    async def scenario(channel: GuestChannel, fake: FakeGuestd) -> None:
        greeting = asyncio.create_task(fake.greet())
        await channel.hello(T)
        await greeting
        said, answers = list[str](), asyncio.Event()

        def log(line: str) -> None:
            said.append(line)
            answers.set()

        following = asyncio.create_task(channel.follow(log, lambda: T))
        for _ in range(2):
            asked = channel.open_stream("exec", {"argv": ["true"]})
            assert (await fake.frame()).kind == OPEN
            fake.writer.write(half + encode_frame(0, RESTARTED))
            with pytest.raises(GuestError, match=words):
                await asked.result()
            with pytest.raises(GuestError, match=words):
                await channel.call("ping", T)
            await fake.greet()
            await answers.wait()
            answers.clear()
            calling = asyncio.create_task(channel.call("ping", T))
            frame = await fake.frame()
            fake.writer.write(encode_frame(frame.stream, RESULT, 0, b'{"ok": {}}'))
            assert await calling == {}
        assert said == ["guestd has restarted, and answers again"] * 2
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    with_fake(scenario)


def test_garbage_counts_each_time_also_where_nobody_follows() -> None:
    async def scenario(channel: GuestChannel, fake: FakeGuestd) -> None:
        for _ in range(2):
            greeting = asyncio.create_task(fake.greet())
            await channel.hello(T)
            await greeting
            asked = channel.open_stream("exec", {"argv": ["true"]})
            assert (await fake.frame()).kind == OPEN
            fake.writer.write(b"garbage" * 10)
            with pytest.raises(GuestError, match="garbage"):
                await asked.result()

    with_fake(scenario)


def test_a_guest_that_ignores_its_credit_is_cut_off() -> None:
    async def scenario(channel: GuestChannel, fake: FakeGuestd) -> None:
        greeting = asyncio.create_task(fake.greet())
        await channel.hello(T)
        await greeting
        flooded = channel.open_stream("exec", {"argv": ["true"]})
        other = channel.open_stream("ping", {})
        for _ in range(20):
            fake.writer.write(encode_frame(flooded.number, DATA, 1, bytes(65536)))
        fake.writer.write(encode_frame(other.number, RESULT, 0, b'{"ok": {}}'))
        assert await other.result() == {}  # so the flood has arrived, and nobody read it
        assert flooded.held <= WINDOW + 65536
        with pytest.raises(GuestError, match="more than it was allowed"):
            await flooded.result()

    with_fake(scenario)


def test_requests_name_their_operation_first() -> None:
    message = encode_request("status", {"x": 1})
    assert message == b'status\n{"x": 1}'
    assert len(encode_message(1, OPEN, bytes(200_000))) == 200_000 + 4 * 18
