"""Ports of the host that lead through the channel to servers beside a real guestd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.resolve.host_ports import pick_port, port_is_free
from engine.supervisor.ports import OpenPorts
from vmm.channel.errors import GuestError
from vmm.errors import VmmError
from vmm.guest.guestd.wire import WINDOW
from vmm.spec import HostForward

if TYPE_CHECKING:
    from conftest import GuestdProcess, Harness  # type: ignore[attr-defined]

T = 50.0
AT_ONCE = 200
Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 on this machine")
both_addresses = pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])


def run(main: Any) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(T):
            return await main

    return asyncio.run(limited())


@contextlib.asynccontextmanager
async def serving(server: Server, address: str = "127.0.0.1") -> AsyncIterator[int]:
    """The port of a server in the guest; its connections are closed after `server`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                await server(reader, writer)
            finally:
                writer.close()

    listening = await asyncio.start_server(handle, address, 0, backlog=1024)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


@contextlib.asynccontextmanager
async def published(harness: Harness, *guest_ports: int) -> AsyncIterator[tuple[GuestdProcess, OpenPorts, list[int]]]:
    """Ports of the host that lead to these of the guest."""
    forwards = [HostForward(pick_port(), guest_port) for guest_port in guest_ports]
    with OpenPorts(forwards) as ports:
        async with harness.start_guestd() as guestd, ports.serving(guestd.channel):
            yield guestd, ports, [forward.host_port for forward in forwards]


@contextlib.asynccontextmanager
async def connected(address: str, port: int) -> AsyncIterator[Pair]:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(address: str, port: int, said: bytes = b"") -> bytes:
    """What is answered to `said` and its end. Raises ConnectionError."""
    async with connected(address, port) as (reader, writer):
        writer.write(said)
        writer.write_eof()
        return await reader.read(-1)


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only after it has seen the end of what is said."""
    writer.write((await reader.read(-1)).upper())
    await writer.drain()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks first, and waits for its client to go."""
    writer.write(b"hello\n")
    await writer.drain()
    await reader.read(-1)


async def until(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110 - the product has no event for the tests' sake
        await asyncio.sleep(0.005)


@both_addresses
def test_both_directions_and_half_close(harness: Harness, address: str) -> None:
    data = b"abcdefgh" * 100_000

    async def main() -> bytes:
        async with serving(upper) as inside, published(harness, inside) as (_, _, [port]):
            return await ask(address, port, data)

    assert run(main()) == data.upper()


@needs_ipv6
def test_a_server_that_listens_on_ipv6_alone_is_reached(harness: Harness) -> None:
    async def main() -> bytes:
        async with serving(upper, "::1") as inside, published(harness, inside) as (_, _, [port]):
            return await ask("127.0.0.1", port, b"six")

    assert run(main()) == b"SIX"


@both_addresses
@pytest.mark.parametrize("server, said, answer", [(greet, b"", b"hello\n"), (upper, b"x" * 10, b"X" * 10)])
def test_all_of_many_at_once_are_answered(
    harness: Harness, address: str, server: Server, said: bytes, answer: bytes
) -> None:
    """Field-machine 05. By QEMU's hostfwd some were never answered, above all where the server speaks first."""

    async def main() -> list[bytes]:
        async with serving(server) as inside, published(harness, inside) as (_, ports, [port]):
            answers = await asyncio.gather(*(ask(address, port, said) for _ in range(AT_ONCE)))
            await until(lambda: ports.connections == 0)
            return answers

    assert run(main()) == [answer] * AT_ONCE


def test_the_servers_end_is_told_while_the_client_may_still_speak(harness: Harness) -> None:
    heard = bytearray()

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        heard.extend(await reader.read(-1))

    async def main() -> None:
        async with serving(leave) as inside, published(harness, inside) as (_, _, [port]):
            async with connected("127.0.0.1", port) as (reader, writer):
                assert await asyncio.wait_for(reader.read(-1), 1) == b"bye"
                writer.write(b"and this")
                writer.write_eof()
                await until(lambda: bool(heard))

    run(main())
    assert heard == b"and this"


@both_addresses
def test_a_refused_connection_is_a_broken_one_outside(harness: Harness, address: str) -> None:
    async def main() -> None:
        async with published(harness, pick_port()) as (_, ports, [port]):
            with pytest.raises(ConnectionResetError):
                await ask(address, port, b"anybody?")
            await until(lambda: ports.connections == 0)

    run(main())


@pytest.mark.parametrize("request_", [{}, {"port": 0}, {"port": 65536}, {"port": "80"}, {"port": None}])
def test_what_is_no_port_is_refused(harness: Harness, request_: dict[str, Any]) -> None:
    async def main() -> None:
        async with harness.start_guestd() as guestd, guestd.channel.open("connect", **request_) as stream:
            with pytest.raises(GuestError, match="no port"):
                await stream.result()
            assert await guestd.channel.call("ping", timeout_s=T)

    run(main())


def test_who_breaks_it_is_heard_as_that_on_the_other_side(harness: Harness) -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(-1)
            ends.put_nowait("ended")
        except ConnectionResetError:
            ends.put_nowait("broke")

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        break_connection(writer)

    async def main() -> None:
        async with serving(listen) as first, serving(break_off) as second:
            async with published(harness, first, second) as (_, ports, [port, other]):
                async with connected("127.0.0.1", port) as (_, writer):
                    writer.write(b"x")
                    await writer.drain()
                    break_connection(writer)
                    assert await ends.get() == "broke"
                with pytest.raises(ConnectionResetError):
                    await ask("127.0.0.1", other, b"x")
                await until(lambda: ports.connections == 0)

    run(main())


def break_connection(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_nobody_holds_more_than_a_window_for_one_that_does_not_read(harness: Harness) -> None:
    """And others are served meanwhile, in both directions."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    async def main() -> None:
        async with serving(flood) as inside, serving(upper) as other:
            async with published(harness, inside, other) as (guestd, _, [port, quick]):
                with socket.socket() as slow:
                    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
                    slow.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(slow, ("127.0.0.1", port))
                    before = -1
                    while sent != before:
                        before = sent
                        for _ in range(5):
                            assert await ask("127.0.0.1", quick, b"abc" * 100_000) == b"ABC" * 100_000
                    # In both kernels' buffers is some of it, too.
                    assert guestd.peak_memory() < 100 << 20 and sent < 4 * WINDOW + (20 << 20)

    run(main())


def test_connections_keep_no_command_out(harness: Harness) -> None:
    async def main() -> None:
        async with serving(greet) as inside, published(harness, inside) as (guestd, ports, [port]):
            async with contextlib.AsyncExitStack() as stack:
                pairs = [await stack.enter_async_context(connected("127.0.0.1", port)) for _ in range(300)]
                assert [await reader.readline() for reader, _ in pairs] == [b"hello\n"] * 300
                assert (await guestd.channel.run(["echo", "here"], user=os.geteuid(), timeout_s=T)).stdout == b"here\n"
                assert ports.connections == 300
            await until(lambda: ports.connections == 0)

    run(main())


def test_finished_connections_leave_nothing(harness: Harness) -> None:
    """A supervisor lives for weeks: a descriptor for each connection would be its end."""

    def descriptors(pid: int) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    async def main() -> None:
        async with serving(upper) as inside, published(harness, inside, pick_port()) as (guestd, ports, [port, nobody]):
            assert await ask("127.0.0.1", port, b"once") == b"ONCE"
            await until(lambda: ports.connections == 0)
            guests, ours = descriptors(guestd.process.pid), descriptors(os.getpid())
            for _ in range(50):
                await ask("127.0.0.1", port, b"x")
                with pytest.raises(ConnectionResetError):
                    await ask("127.0.0.1", nobody, b"x")
            await until(lambda: ports.connections == 0 and descriptors(os.getpid()) <= ours)
            assert guestd.channel.streams == 0
            assert descriptors(guestd.process.pid) == guests

    run(main())


def test_what_connects_before_the_machine_serves_waits_for_it(harness: Harness) -> None:
    async def main() -> bytes:
        async with serving(upper) as inside:
            forward = HostForward(pick_port(), inside)
            with OpenPorts([forward]) as ports:
                assert not port_is_free(forward.host_port)
                early = asyncio.create_task(ask("127.0.0.1", forward.host_port, b"early"))
                async with harness.start_guestd() as guestd, ports.serving(guestd.channel):
                    return await early

    assert run(main()) == b"EARLY"


@both_addresses
def test_leaving_cuts_open_connections_and_frees_the_ports(harness: Harness, address: str) -> None:
    async def main() -> None:
        async with serving(greet) as inside:
            async with published(harness, inside) as (_, _, [port]):
                reader, writer = await asyncio.open_connection(address, port)
                assert await reader.readline() == b"hello\n"
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read(-1) == b""
            writer.close()
            assert port_is_free(port)

    run(main())


def test_a_guest_that_is_gone_cuts_them_and_takes_no_more(harness: Harness) -> None:
    async def main() -> None:
        async with serving(greet) as inside, published(harness, inside) as (guestd, ports, [port]):
            async with connected("127.0.0.1", port) as (reader, _):
                assert await reader.readline() == b"hello\n"
                guestd.process.kill()
                with pytest.raises(ConnectionResetError):
                    await reader.read(-1)
            with pytest.raises(ConnectionResetError):
                await ask("127.0.0.1", port, b"x")
            await until(lambda: ports.connections == 0)

    run(main())


# ports that come and go


def numbered(number: int) -> Server:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % number)
        await writer.drain()

    return say


@both_addresses
def test_ports_come_and_go(harness: Harness, address: str) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            inside = [await stack.enter_async_context(serving(numbered(number))) for number in range(4)]
            kept, gone, new = (HostForward(pick_port(), inside[number]) for number in range(3))
            ports = stack.enter_context(OpenPorts((kept, gone)))
            guestd = await stack.enter_async_context(harness.start_guestd())
            await stack.enter_async_context(ports.serving(guestd.channel))
            assert await ask(address, gone.host_port) == b"1"
            held = await stack.enter_async_context(connected(address, kept.host_port))
            await ports.change((new, kept))
            assert await ask(address, kept.host_port) == b"0" and await ask(address, new.host_port) == b"2"
            with pytest.raises(ConnectionRefusedError):
                await ask(address, gone.host_port)
            assert set(ports.forwards) == {kept, new}
            # The same port of the host, to another one of the guest; who is connected stays so.
            await ports.change((HostForward(kept.host_port, inside[3]), new))
            assert await ask(address, kept.host_port) == b"3"
            assert await held[0].read(-1) == b"0"

    run(main())


def test_after_a_failure_it_is_known_what_is_open(harness: Harness) -> None:
    async def main() -> None:
        async with serving(numbered(1)) as inside, published(harness) as (_, ports, _):
            first = HostForward(pick_port(), inside)
            with socket.create_server(("127.0.0.1", 0)) as somebody:
                taken = HostForward(somebody.getsockname()[1], 2)
                with pytest.raises(VmmError, match=f"port 127.0.0.1:{taken.host_port} of the host"):
                    await ports.change((first, taken, HostForward(pick_port(), 3)))
                assert ports.forwards == (first,)
                assert await ask("127.0.0.1", first.host_port) == b"1"
                await ports.change(())
                assert ports.forwards == ()

    run(main())


def test_one_that_is_taken_leaves_no_other_open() -> None:
    free = HostForward(pick_port(), 1)
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = HostForward(somebody.getsockname()[1], 2)
        with pytest.raises(VmmError, match="could not be opened") as caught, OpenPorts((free, taken)):
            raise AssertionError
        assert f"sport = :{taken.host_port}" in str(caught.value.hint)
    assert port_is_free(free.host_port)


@needs_ipv6
def test_a_port_that_somebody_has_on_ipv6_is_left_to_its_owner(harness: Harness) -> None:
    async def main() -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as owner:
            with OpenPorts([HostForward(owner.getsockname()[1], 1)]) as ports:
                assert len(ports.forwards) == 1

    run(main())
