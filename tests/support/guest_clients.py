"""Clients that run in a guest, as text, and the server behind the gateway that they visit."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

HOST = "site.example.com"
# Arguments: how many at once, how often each. Prints how many got which answer.
MANY = """
import socket, sys, threading
count, times = int(sys.argv[1]), int(sys.argv[2])
answers, together = [], threading.Barrier(count)
def ask():
    together.wait()
    for _ in range(times):
        answers.append(once())
def once():
    try:
        with socket.create_connection(("10.0.2.100", 80), 200) as connection:
            connection.sendall(b"GET / HTTP/1.1\\r\\nHost: site.example.com\\r\\nConnection: close\\r\\n\\r\\n")
            heard = b""
            while data := connection.recv(1000):
                heard += data
            return heard[-2:].decode()
    except OSError as error:
        return repr(error)
threads = [threading.Thread(target=ask) for _ in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print({answer: answers.count(answer) for answer in answers})
"""
# Says what it was given (a ClientHello), hears the server's last words and then its end, and can still speak.
LAST_WORDS = """
import socket, sys
with socket.create_connection(("10.0.2.100", 443), 60) as connection:
    connection.sendall(sys.stdin.buffer.read())
    heard = connection.recv(3, socket.MSG_WAITALL)
    end = connection.recv(1)
    connection.sendall(b"!")
print(heard, end)
"""


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


@contextlib.asynccontextmanager
async def serving(ends: list[bytes]) -> AsyncIterator[tuple[Any, Any]]:
    """A server, as a resolver and a connector for a gateway; what a guest says last, after our end, goes to `ends`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1) == b"\x16":  # TLS: says its last words, then hears those of the other side
            writer.write(b"bye")
            writer.write_eof()
            ends.append((await reader.read())[-1:])
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        writer.close()

    async def resolve(name: str, port: int) -> list[str]:
        return ["203.0.113.1"]

    async def connect(address: str, port: int) -> Any:
        return await asyncio.open_connection(*server.sockets[0].getsockname()[:2])

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    async with server:
        yield resolve, connect
