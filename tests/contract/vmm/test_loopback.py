"""Ports of the host, and the relay from [::1] to 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.resolve.host_ports import pick_port, port_is_free
from engine.resolve.mounts_and_ports import wanted_forwards
from engine.supervisor.ports import relay_ipv6
from sandboxfile import load
from vmm.spec import HostForward

Runner = Callable[..., Any]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no ::1 on this machine")


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """The port of a server on 127.0.0.1; its connections are closed after `handler`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only after it has seen the end of what is said."""
    writer.write((await reader.read(-1)).upper())
    await writer.drain()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_with_a_listener_is_not_free(address: str) -> None:
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


def test_a_port_that_was_just_used_is_free() -> None:
    """Connections in TIME_WAIT do not count."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            accepted.close()
            assert client.recv(1) == b""
    assert port_is_free(port)


def test_pick_port_gives_a_free_one() -> None:
    assert port_is_free(pick_port())


class Offers:
    """Sockets of a kernel that offers these ports, in turn."""

    def __init__(self, *ports: int) -> None:
        self.ports = list(ports)

    def __enter__(self) -> Offers:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def bind(self, address: object) -> None:
        self.port = self.ports.pop(0)

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


def test_a_picked_port_is_none_that_somebody_is_about_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    offers = Offers(5000, 5001, 5002)
    monkeypatch.setattr(socket, "socket", lambda: offers)
    assert pick_port({5000, 5001}) == 5002


def test_ports_of_one_file_are_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Sandboxfile.yaml").write_text(
        'version: "1"\nports: ["5000:1", 2, 3, 4]\nservices: {a: {image: a, ports: ["5001:9"]}}\n'
    )
    offers = Offers(5000, 5001, 5002, 5003, 5003, 5004)
    monkeypatch.setattr(socket, "socket", lambda: offers)
    before = [HostForward(5002, 4)]
    forwards = wanted_forwards(load(tmp_path / "Sandboxfile.yaml"), before)
    assert [(one.host_port, one.guest_port) for one in forwards] == [
        (5000, 1),
        (5003, 2),
        (5004, 3),
        (5002, 4),
        (5001, 5001),
    ]


@needs_ipv6
def test_both_directions_and_half_close(run_clean: Runner) -> None:
    data = b"abcdefgh" * 100_000

    async def main() -> bytes:
        async with serving(upper) as port, relay_ipv6(port):
            reader, writer = await asyncio.open_connection("::1", port)
            writer.write(data)
            writer.write_eof()
            answer = await reader.read(-1)
            writer.close()
            await writer.wait_closed()
            return answer

    assert run_clean(main()) == data.upper()


@needs_ipv6
def test_finished_connections_are_closed(run_clean: Runner) -> None:
    """A supervisor lives for weeks: a descriptor for each connection would be its end."""

    async def main() -> int:
        from pathlib import Path

        async with serving(upper) as port, relay_ipv6(port):
            before = len(list(Path("/proc/self/fd").iterdir()))
            for _ in range(10):
                reader, writer = await asyncio.open_connection("::1", port)
                writer.write_eof()
                await reader.read(-1)
                writer.close()
                await writer.wait_closed()
            for _ in range(10):
                await asyncio.sleep(0)
            return len(list(Path("/proc/self/fd").iterdir())) - before

    assert run_clean(main()) <= 2


@needs_ipv6
def test_the_other_side_may_end_first(run_clean: Runner) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()

    async def main() -> bytes:
        async with serving(greet) as port, relay_ipv6(port):
            reader, writer = await asyncio.open_connection("::1", port)
            greeting = await reader.read(-1)
            writer.close()
            await writer.wait_closed()
            return greeting

    assert run_clean(main()) == b"hello"


@needs_ipv6
def test_nobody_behind_it_closes_the_connection(run_clean: Runner) -> None:
    async def main() -> bytes:
        port = pick_port()
        async with relay_ipv6(port):
            reader, writer = await asyncio.open_connection("::1", port)
            said = await reader.read(-1)
            writer.close()
            return said

    assert run_clean(main()) == b""


@needs_ipv6
def test_leaving_ends_open_connections(run_clean: Runner) -> None:
    async def main() -> None:
        async with serving(upper) as port:
            async with relay_ipv6(port):
                reader, writer = await asyncio.open_connection("::1", port)
                writer.write(b"x")
                await writer.drain()
                other, unanswered = await asyncio.open_connection("::1", port)
            for stream in (reader, other):
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(stream.read(-1), 20) in (b"", b"X")
            for end in (writer, unanswered):
                end.close()
            with pytest.raises(OSError):
                await asyncio.open_connection("::1", port)

    run_clean(main())


@needs_ipv6
def test_a_taken_port_is_left_to_its_owner(run_clean: Runner) -> None:
    async def main() -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as owner:
            async with relay_ipv6(owner.getsockname()[1]):
                pass

    run_clean(main())
