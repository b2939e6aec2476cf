"""A server that keeps what it gets and sends all of it back, credentials too, as careless servers do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

HTTP_2 = b"PRI * HTTP/2.0\r\n\r\n"
NO_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
REDIRECTED_TO = "https://other.example.com/steal"


def fields_of(head: bytes) -> dict[str, list[str]]:
    """The headers of a request's head, names in lower case."""
    fields: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), []).append(value.strip())
    return fields


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: Callable[[str, bytes, bytes], None]
) -> None:
    """Answer one connection. `keep` gets (name in the TLS hello, head, body) of each request, or what is none."""
    tls = writer.get_extra_info("ssl_object")
    name = getattr(tls, "asked_for", "") if tls else ""
    with suppress(OSError, ValueError):
        while await _answer(reader, writer, lambda head, body: keep(name, head, body)):
            pass
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _listen(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: Callable[[bytes, bytes], None]
) -> None:
    """HTTP/2 as far as it takes to be sent a request; there should be none."""
    writer.write(NO_SETTINGS)
    await reader.readexactly(len("SM\r\n\r\n"))
    while True:
        try:
            frame = await reader.readexactly(9)
            content = await reader.readexactly(int.from_bytes(frame[:3], "big"))
        except asyncio.IncompleteReadError:
            return
        if frame[3] == 1:  # HEADERS
            keep(b"HTTP/2 ", content)


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: Callable[[bytes, bytes], None]
) -> bool:
    head = body = b""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if head == HTTP_2:
            await _listen(reader, writer, keep)
            return False
        fields = fields_of(head)
        if "transfer-encoding" in fields:
            while not body.endswith(b"0\r\n\r\n"):
                body += await reader.readuntil(b"\r\n")
        else:
            body = await reader.readexactly(int(fields.get("content-length", ["0"])[0]))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        rest = error.partial if isinstance(error, asyncio.IncompleteReadError) else b""
        if head + body + rest:
            keep(head, body + rest)
        return False
    keep(head, body)
    redirected = fields.get("x-want") == ["redirect"]
    lines = ["HTTP/1.1 302 Found", f"location: {REDIRECTED_TO}"] if redirected else ["HTTP/1.1 200 OK"]
    lines += [f"x-echo: {(fields.get('x-api-key') or fields.get('authorization') or ['none'])[0]}"]
    lines += [f"content-length: {len(head + body)}"]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + head + body)
    await writer.drain()
    return fields.get("connection") != ["close"]
