"""What the gateway itself costs: the same bytes from the same server, directly and through it. No guest in between."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.gateway.server import start_gateway
from engine.gateway.upstream import Streams

HOST = "bench.example.com"
SIZE = 128 * 1024 * 1024
CHUNK = 1024 * 1024
LIMIT_S = 60.0


@contextmanager
def _serve() -> Iterator[int]:
    """A server on a loopback port that answers whatever comes first with a head and SIZE bytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n".encode()
    block = bytes(CHUNK)

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(LIMIT_S)
                connection.recv(CHUNK)
                connection.sendall(head)
                for _ in range(SIZE // CHUNK):
                    connection.sendall(block)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT_S)


def _download(family: int, address: object, request: bytes) -> float:
    buffer = bytearray(CHUNK)
    began = time.perf_counter()
    with socket.socket(family) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(address)  # type: ignore[arg-type]
        connection.sendall(request)
        received = 0
        while received < SIZE and (count := connection.recv_into(buffer)):
            received += count
    if received < SIZE:
        raise RuntimeError(f"the download ended after {received} bytes")
    return time.perf_counter() - began


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake needs an answer")


def gateway_downloads(runs: int) -> dict[str, list[float]]:
    """Seconds for SIZE bytes: "direct", "http" (read and written anew) and "tls" (spliced after the ClientHello)."""
    return asyncio.run(_measure(runs))


async def _measure(runs: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {"direct": [], "http": [], "tls": []}
    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with _serve() as port, tempfile.TemporaryDirectory(prefix="sandbox-bench-") as scratch:

        async def resolve(host: str, guest_port: int) -> list[str]:
            return ["203.0.113.1"]  # a public address for the gateway's check; `connect` goes to the server here

        async def connect(address: str, guest_port: int) -> Streams:
            return await asyncio.open_connection("127.0.0.1", port)

        with Journal(Path(scratch) / "journal.jsonl") as journal:
            async with start_gateway(
                Policy([Rule(HOST)]), Path(scratch), journal, resolver=resolve, connect=connect
            ) as gateway:
                roads = {
                    "direct": (socket.AF_INET, ("127.0.0.1", port), request),
                    "http": (socket.AF_UNIX, str(gateway.sockets[80]), request),
                    "tls": (socket.AF_UNIX, str(gateway.sockets[443]), _client_hello()),
                }
                for _ in range(runs):
                    for name, road in roads.items():
                        seconds[name].append(await asyncio.to_thread(_download, *road))
    return seconds
