"""A gateway that looks inside TLS, between a guest that trusts it and a recorder with a CA of its own."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from gateway_world import DEADLINE_S, Handler, World, world

from engine.gateway.authority import Authority
from engine.gateway.limits import Limits
from engine.gateway.proxies import Proxies
from engine.gateway.rules import Injection, Rule
from engine.gateway.tlsio import end_strictly, is_cut

HOST = "api.example.com"
VALUE = "sk-real-0123456789abcdef"
HELD = "sk-held-by-the-guest"
KEY = Injection("key", "authorization", "bearer", drop=("x-api-key",), placeholders=(HELD,))
SECRET_RULE = Rule(HOST, injections=(KEY,), origin="endpoints[0]", place="Sandboxfile.yaml:7")
LOOK = Rule(HOST, intercept=True, origin="endpoints[0]")


@functools.cache
def guest_authority() -> Authority:
    return Authority.create("shop")


@functools.cache
def server_authority() -> Authority:
    return Authority.create("the servers of the test")


@dataclass
class Recorder:
    """A server: `received` is what each connection sent, byte for byte. `replies` maps paths to whole answers."""

    replies: Mapping[str, bytes] = field(default_factory=dict)
    received: list[bytearray] = field(default_factory=list)
    alpn: list[str | None] = field(default_factory=list)
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)  # heads and bodies

    @property
    def heads(self) -> list[bytes]:
        return [head for head, _ in self.requests]

    @property
    def everything(self) -> bytes:
        return b"".join(map(bytes, self.received))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        log = bytearray()
        self.received.append(log)
        tls = writer.get_extra_info("ssl_object")
        self.alpn.append(tls.selected_alpn_protocol() if tls else None)

        async def take(size: int) -> bytes:
            data = await reader.readexactly(size)
            log.extend(data)
            return data

        async def until(end: bytes) -> bytes:
            data = await reader.readuntil(end)
            log.extend(data)
            return data

        while True:
            try:
                head = await until(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                log.extend(error.partial)
                return
            fields = fields_of(head)
            if fields.get("expect") == ["100-continue"]:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = b""
            if "content-length" in fields:
                body = await take(int(fields["content-length"][0]))
            elif "transfer-encoding" in fields:
                while size := int(await until(b"\r\n"), 16):
                    body += await take(size)
                    await until(b"\r\n")
                await until(b"\r\n")
            self.requests.append((head, body))
            path = head.split(b" ")[1].decode()
            reply = self.replies.get(path.partition("?")[0])
            if reply is None:
                reply = b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path.encode())
            writer.write(reply)
            await writer.drain()
            if b"connection: close" in reply.lower() or b"\r\n\r\n" not in reply:
                return


def fields_of(head: bytes) -> dict[str, list[str]]:
    """The headers of a head, names in lower case."""
    fields: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name.lower(), []).append(value.strip())
    return fields


@dataclass
class InsideWorld:
    plain: World
    recorder: Recorder

    @asynccontextmanager
    async def guest(
        self, host: str = HOST, alpn: Sequence[str] = ("http/1.1",), port: int = 443
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection of a client inside the guest that verifies the name."""
        context = client_context(guest_authority().certificate, alpn)
        path = str(self.plain.gateway.sockets[port])
        reader, writer = await asyncio.open_unix_connection(path, ssl=context, server_hostname=host)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def ask(self, data: bytes, host: str = HOST) -> bytes:
        """Send bytes inside TLS, return everything until the gateway hangs up."""
        async with self.guest(host) as (reader, writer):
            writer.write(data)
            return await reader.read(-1)

    async def quiet(self) -> list[dict[str, Any]]:
        return await self.plain.quiet()


@asynccontextmanager
async def inside_world(
    *rules: Rule,
    replies: Mapping[str, bytes] | None = None,
    handler: Handler | None = None,
    secrets: Callable[[str], str | None] = {"key": VALUE}.get,
    limits: Limits | None = None,
    server: ssl.SSLContext | None = None,
    alpn: str | None = "http/1.1",
    dead: bool = False,
    proxies: Proxies | None = None,
    deadline_s: float = DEADLINE_S,
) -> AsyncIterator[InsideWorld]:
    """What the gateway connects to is the recorder (or `handler`), behind TLS as api.example.com unless `server`."""
    recorder = Recorder(replies or {})
    with trusting(server_authority().certificate):
        async with world(
            *rules,
            handler=handler or recorder.serve,
            tls=server or server_authority().context(HOST, alpn),
            secrets=secrets,
            authority=guest_authority(),
            limits=limits,
            dead=dead,
            proxies=proxies,
            deadline_s=deadline_s,
        ) as plain:
            yield InsideWorld(plain, recorder)


@contextmanager
def trusting(certificate: str) -> Iterator[None]:
    """The host's own trust is this certificate, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="ca-") as directory:
        path = Path(directory) / "ca.pem"
        path.write_text(certificate)
        with mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(path), "SSL_CERT_DIR": directory}):
            yield


def client_context(certificate: str, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    context = end_strictly(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.load_verify_locations(cadata=certificate)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def get(path: str = "/", extra: str = "", host: str = HOST, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode()


def raw_guest(w: InsideWorld, request: bytes) -> tuple[bytes, bool]:
    """What a blocking client got, and whether it ended with a close_notify."""
    context = client_context(guest_authority().certificate)
    got = b""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(w.plain.gateway.sockets[443]))
        with context.wrap_socket(raw, server_hostname=HOST, suppress_ragged_eofs=False) as tls:
            tls.sendall(request)
            try:
                while data := tls.recv(65536):
                    got += data
            except ssl.SSLError as error:
                assert is_cut(error)
                return got, False
    return got, True


CLOSE = "Connection: close\r\n"
