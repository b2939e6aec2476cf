from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError
from vmm.channel.client import connect
from vmm.channel.errors import GuestError
from vmm.channel.relay import Relay
from vmm.channel.stream import LocalStream
from vmm.errors import VmmError

T = 20.0


def test_two_clients_do_not_see_each_other(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_relay() as (_, _, path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            async with await connect(path) as one, await connect(path) as two:
                runs = [
                    client.run(["cat"], stdin=b"%d" % n * 100_000, user=os.geteuid(), timeout_s=T)
                    for n in range(10)
                    for client in (one, two)
                ]
                done = await asyncio.gather(*runs)
                assert [d.stdout[:1] for d in done] == [b"%d" % (n // 2) for n in range(20)]
                assert all(len(d.stdout) == 100_000 for d in done)
        assert not path.exists()

    asyncio.run(scenario())


def test_a_client_that_goes_away_takes_only_its_commands_with_it(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_relay() as (_, _, path), await connect(path) as stays:
            text = ["sh", "-c", "echo $$; exec sleep 1000"]
            async with stays.open_exec(text, user=os.geteuid()) as other:
                _, data = await anext(aiter(other))
                goes = await connect(path)
                stream = goes.open_stream("exec", {"argv": text, "user": os.geteuid()})
                chunk = await stream.receive()
                assert chunk
                goes._writer.transport.abort()  # as if it were killed
                await harness.wait_until(lambda: not harness.is_alive(int(chunk[1])))
                assert harness.is_alive(int(data))
                assert (await stays.call("ping", T))["protocol"]
                await goes.close()

    asyncio.run(scenario())


def test_clients_hear_of_the_guests_end_and_are_refused_afterwards(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_relay() as (guestd, relay, path), await connect(path) as client:
            # Of its own accord `cat` ends with the guestd that held its input.
            async with client.open_exec(["cat"], user=os.geteuid(), stdin=True) as command:
                await client.call("ping", T)
                guestd.process.kill()
                with pytest.raises(GuestError, match="gone"):
                    await command.wait()
            with pytest.raises(GuestError, match="gone"):
                await client.call("ping", T)
            relay.guest = None
            with pytest.raises(GuestError, match="not up"):
                await client.call("ping", T)
            # A new guest in its place serves the same clients.
            async with harness.start_guestd() as next_guestd:
                relay.guest = next_guestd.channel
                assert (await client.call("ping", T))["protocol"]

    asyncio.run(scenario())


def test_an_end_while_a_client_goes_away_is_no_error_in_the_log(
    harness: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        going = asyncio.Event()

        async def close_writer(writer: asyncio.StreamWriter, flush_s: float) -> None:
            going.set()
            await asyncio.Event().wait()

        monkeypatch.setattr("vmm.channel.relay.close_writer", close_writer)
        async with harness.start_relay() as (_, _, path):
            async with await connect(path) as client:
                await client.call("ping", T)
            async with asyncio.timeout(T):
                await going.wait()

    asyncio.run(scenario())
    assert not caplog.records


def test_some_operations_are_answered_by_the_supervisor(harness: Any) -> None:
    ended = asyncio.Event()

    async def status(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        return {"state": "up", "asked": request["what"]}

    async def journal(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        for _ in range(40):
            await stream.send(bytes(50_000), 1)
        return {"lines": 40}

    async def follow(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        try:
            await stream.send(b"first", 1)
            await asyncio.Event().wait()
        finally:
            ended.set()
        return {}

    async def refuse(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        raise VmmError("no", "details", "hint")

    async def full(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device", "/state/record")

    async def crash(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        raise KeyError("bug")

    async def refuse_otherwise(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        raise EngineError("no", "details", "hint")

    handlers = {"status": status, "journal": journal, "follow": follow, "refuse": refuse, "crash": crash}
    handlers |= {"full": full, "refuse_otherwise": refuse_otherwise}

    async def scenario() -> None:
        async with harness.start_client(handlers) as (_, client):
            long = "x" * 100_000  # more than a frame
            assert await client.call("status", T, what=long) == {"state": "up", "asked": long}
            async with client.open("journal") as stream:
                assert sum([len(data) async for _, data in stream]) == 2_000_000
                assert await stream.result() == {"lines": 40}
            async with client.open("follow") as stream:
                assert await stream.receive() == (1, b"first")
            await asyncio.wait_for(ended.wait(), T)  # cancelled when we left
            for op in ("refuse", "refuse_otherwise"):  # of whichever package the error is
                with pytest.raises(GuestError) as caught:
                    await client.call(op, T)
                assert (caught.value.brief, caught.value.details, caught.value.hint) == ("no", "details", "hint")
            with pytest.raises(GuestError) as caught:
                await client.call("full", T)
            assert caught.value.brief == "/state/record: No space left on device"
            assert caught.value.hint == "free some space"
            with pytest.raises(GuestError, match="the supervisor failed"):
                await client.call("crash", T)
            assert (await client.call("ping", T))["protocol"]

    asyncio.run(scenario())


def test_a_guest_that_reads_nothing_keeps_nobody_from_the_supervisor(
    harness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def status(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        return {"state": "up"}

    async def never() -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with harness.start_relay({"status": status}) as (_, relay, path), await connect(path) as client:
            monkeypatch.setattr(relay.guest, "drain", never)
            for _ in range(3):
                assert await client.call("status", T) == {"state": "up"}

    asyncio.run(scenario())


def test_who_waits_for_a_supervisor_that_ends_is_told(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def pause(request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            relay = await stack.enter_async_context(Relay(None, tmp_path / "control", {"pause": pause}))
            client = await stack.enter_async_context(await connect(tmp_path / "control"))
            asked = asyncio.create_task(client.call("pause", T))
            await begun.wait()
            await relay.__aexit__(None, None, None)
            with pytest.raises(GuestError, match="ended before it was done"):
                await asked

    asyncio.run(scenario())


def test_a_client_that_never_reads_costs_one_window_a_stream(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_relay() as (guestd, _, path), await connect(path) as other:
            stuck = await connect(path)
            stuck._reader._transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(5):
                stuck.open_stream("exec", {"argv": ["yes"], "user": os.geteuid()})
            for _ in range(50):
                await other.call("ping", T)
                buffered = [
                    sink._client.writer.transport.get_write_buffer_size() for sink in guestd.channel._sinks.values()
                ]
                assert max(buffered, default=0) < 6 * 300_000
            await stuck.close()

    asyncio.run(scenario())


def test_a_stranger_on_the_socket_is_sent_away(harness: Any) -> None:
    async def scenario() -> None:
        async with harness.start_relay() as (_, _, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET / HTTP/1.1\r\nHost: somewhere.test\r\n\r\n")
            assert await asyncio.wait_for(reader.read(), T) == b""
            writer.close()

    asyncio.run(scenario())


def test_nobody_listens(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(GuestError, match="does not answer"):
            await connect(tmp_path / "nothing")

    asyncio.run(scenario())
