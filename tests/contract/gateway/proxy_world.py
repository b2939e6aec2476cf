"""An upstream proxy over loopback that records what it is asked, and lets each connection end at one server."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class UpstreamProxy:
    """`asked` are the first lines of CONNECT, or HOST:PORT of SOCKS, `users` the credentials.

    `answer` replaces its own.
    """

    port: int = 0
    target: int = 0  # the port of the server behind it
    user: str = ""
    answer: Answer | None = None
    asked: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(1)
        if not first:
            return
        if first == b"\x05":
            await self._socks(reader, writer)
            return
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split("\r\n")[0])
        given = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Proxy-Authorization")]
        self.users += [base64.b64decode(value.removeprefix("Basic ")).decode() for value in given]
        if self.answer is not None:
            await self.answer(reader, writer)
            return
        if self.user and self.user not in self.users:
            writer.write(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
            return
        await self._through(reader, writer, b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RFC 1928 and 1929."""
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        wanted = 2 if self.user else 0
        writer.write(bytes([5, wanted if wanted in methods else 255]))
        if wanted not in methods:
            return
        if wanted:
            await reader.readexactly(1)
            name = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            self.users.append(f"{name.decode()}:{password.decode()}")
            writer.write(bytes([1, self.users[-1] != self.user]))
            if self.users[-1] != self.user:
                return
        *_, kind = await reader.readexactly(4)
        assert kind == 3, "a name, which is the proxy's to resolve"
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        self.asked.append(f"{host}:{int.from_bytes(await reader.readexactly(2), 'big')}")
        if self.answer is not None:
            await self.answer(reader, writer)
            return
        await self._through(reader, writer, bytes([5, 0, 0, 1, 127, 0, 0, 1, 0, 80]))

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, first: bytes = b"") -> None:
            # What the server says first comes in one piece with the answer, if it is there by now.
            sink.write(first)
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()

        early = await far_reader.read(65536) if self.target_speaks_first else b""
        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer, answer + early))
        finally:
            far_writer.close()

    target_speaks_first: bool = False


@asynccontextmanager
async def upstream_proxy(
    target: Answer,
    *,
    user: str = "",
    answer: Answer | None = None,
    tls: ssl.SSLContext | None = None,
    target_tls: ssl.SSLContext | None = None,
    speaks_first: bool = False,
) -> AsyncIterator[UpstreamProxy]:
    """A proxy behind which every name is `target`."""
    proxy = UpstreamProxy(user=user, answer=answer, target_speaks_first=speaks_first)
    tasks: set[asyncio.Task[None]] = set()

    def accepting(serve: Answer) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with suppress(OSError, asyncio.IncompleteReadError):
                    await serve(reader, writer)
                    writer.close()
                    await writer.wait_closed()
            finally:
                writer.transport.abort()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(run(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        return accept

    behind = await asyncio.start_server(accepting(target), "127.0.0.1", 0, ssl=target_tls)
    front = await asyncio.start_server(accepting(proxy.serve), "127.0.0.1", 0, ssl=tls)
    proxy.target, proxy.port = (server.sockets[0].getsockname()[1] for server in (behind, front))
    try:
        yield proxy
    finally:
        for server in (front, behind):
            server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
