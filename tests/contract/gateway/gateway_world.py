"""A gateway with a guest on one side and a small network on the other, all over loopback."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.gateway.authority import Authority
from engine.gateway.journal import Journal
from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.proxies import Proxies
from engine.gateway.rules import Rule
from engine.gateway.server import Gateway, start_gateway
from engine.gateway.waiting import Waiting
from vmm.spec import GATEWAY_ADDRESS

DEADLINE_S = 20.0  # for anything that must happen; nothing waits so long in a good run
PUBLIC = "203.0.113.10"  # what names resolve to unless a test says otherwise

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class World:
    gateway: Gateway
    journal: Journal
    dialled: list[tuple[str, int]]  # what the gateway connected to
    resolved: list[str]  # what it looked up
    addresses: dict[str, Sequence[str]] = field(default_factory=dict)

    @asynccontextmanager
    async def guest(
        self, port: int, name: str | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection of the guest to the port at the address that its resolver gives for the name."""
        address = self.gateway.names.get(name or "", GATEWAY_ADDRESS)
        path = next(path for door, path in self.gateway.doors.items() if (door.address, door.port) == (address, port))
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def ask(self, port: int, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes, return everything until the gateway hangs up."""
        async with self.guest(port) as (reader, writer):
            writer.write(data)
            if end:
                writer.write_eof()
            return await reader.read(-1)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.path.read_text().splitlines()]

    async def quiet(self) -> list[dict[str, Any]]:
        """The journal once no connection is open."""
        await until(lambda: self.gateway.connections == 0)
        return self.lines()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event announces; the world's deadline ends it."""
    while not condition():  # noqa: ASYNC110 - the product has no event for the tests' sake
        await asyncio.sleep(0.005)


@asynccontextmanager
async def world(
    *rules: Rule,
    handler: Handler | None = None,
    limits: Limits | None = None,
    dead: bool = False,
    tls: ssl.SSLContext | None = None,
    secrets: Callable[[str], str | None] | None = None,
    authority: Authority | None = None,
    proxies: Proxies | None = None,
    waiting: Waiting | None = None,
    deadline_s: float = DEADLINE_S,
) -> AsyncIterator[World]:
    """Everything the gateway connects to ends at `handler`, behind `tls`; with `dead`, nothing answers there.

    What it reaches through `proxies` is not in the world's lists: those are really connected to.
    """
    dialled: list[tuple[str, int]] = []
    resolved: list[str] = []
    addresses: dict[str, Sequence[str]] = {}
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if handler is not None:
                await handler(reader, writer)
            writer.close()
            await writer.wait_closed()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    real = server.sockets[0].getsockname()[1]
    if dead:
        server.close()
        await server.wait_closed()

    async def resolver(name: str, port: int) -> Sequence[str]:
        resolved.append(name)
        return addresses.get(name, [PUBLIC])

    async def connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        dialled.append((address, port))
        return await asyncio.open_connection("127.0.0.1", real)

    directory = Path(tempfile.mkdtemp(prefix="gw-"))
    try:
        with Journal(directory / "journal.jsonl", sandbox="shop") as journal:
            async with asyncio.timeout(deadline_s):
                async with start_gateway(
                    Policy(rules),
                    directory,
                    journal,
                    resolver=resolver,
                    connect=connect,
                    limits=limits,
                    secrets=secrets,
                    authority=authority,
                    proxies=proxies,
                    waiting=waiting,
                ) as gateway:
                    yield World(gateway, journal, dialled, resolved, addresses)
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        shutil.rmtree(directory)


def client_hello(name: str | None) -> bytes:
    """What Python's TLS client says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def in_loop(scenario: Awaitable[None]) -> None:
    """Run a scenario; afterwards nothing may be left in the loop."""

    async def run() -> None:
        await scenario
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        assert not rest, f"tasks left behind: {rest}"

    asyncio.run(run())
