"""WebSockets inside TLS: the upgrade, what is refused of it, and values in frames."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os

import pytest
from gateway_world import in_loop
from inside_world import (
    CLOSE,
    LOOK,
    SECRET_RULE,
    VALUE,
    fields_of,
    get,
    inside_world,
)

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


UPGRADE = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
NONCE = "dGhlIHNhbXBsZSBub25jZQ=="
ASK_WEBSOCKET = UPGRADE + f"Sec-WebSocket-Key: {NONCE}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"


def accept_for(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


def frame(payload: bytes, first: int = 0x82) -> bytes:
    """As servers send them; the server of these tests sends what it gets."""
    size = len(payload)
    if size < 126:
        return bytes([first, size]) + payload
    length = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    return bytes([first]) + length + payload


class WebSocketServer:
    def __init__(self, accept: str | None = None, early: bytes = b"") -> None:
        self.accept, self.early = accept, early
        self.head = b""
        self.got = bytearray()

    async def serve(self, reader: Reader, writer: Writer) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        accept = self.accept or accept_for(fields_of(self.head)["sec-websocket-key"][0])
        head = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode() + self.early)
        while data := await reader.read(1 << 16):
            self.got += data
            writer.write(data)
            await writer.drain()


def test_a_websocket_with_the_credential_on_its_upgrade() -> None:
    async def scenario() -> None:
        server = WebSocketServer(early=frame(b"early"))
        async with inside_world(SECRET_RULE, handler=server.serve) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/ws", extra=ASK_WEBSOCKET) + frame(b"at once"))
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 101 ") and fields_of(head)["sec-websocket-accept"] == [
                    accept_for(NONCE)
                ]
                assert await reader.readexactly(16) == frame(b"early") + frame(b"at once")
                big = frame(os.urandom(5 << 20))

                async def send() -> None:
                    writer.write(big)
                    await writer.drain()

                sending = asyncio.create_task(send())
                assert await reader.readexactly(len(big)) == big
                await sending
                value, stars = VALUE.encode(), b"*" * len(VALUE)
                writer.write(frame(b"<" + value + b">"))
                assert await reader.readexactly(len(value) + 4) == frame(b"<" + stars + b">")
                # Also where two frames share it, with a ping between them, and in the reason of an end.
                for first, second in ((value[:9], value[9:]), (value[:-1], value[-1:])):
                    cut = frame(b"<" + first, 0x01) + frame(value, 0x89) + frame(second + b">", 0x80)
                    writer.write(cut)
                    got = await reader.readexactly(len(cut))
                    whole = frame(b"<" + stars[: len(first)], 0x01) + frame(stars, 0x89)
                    assert got == whole + frame(stars[len(first) :] + b">", 0x80)
                # A message that ends within it holds up neither a ping nor the next message, where the rest may be.
                writer.write(frame(b"<" + value[:10]) + frame(b"ping", 0x89))
                assert await reader.readexactly(13 + 6) == frame(b"<" + stars[:10]) + frame(b"ping", 0x89)
                writer.write(frame(value[10:] + b">"))
                assert await reader.readexactly(len(value) - 10 + 3) == frame(stars[10:] + b">")
                writer.write(frame(b"\x03\xf0" + value, 0x88))
                assert await reader.readexactly(len(value) + 4) == frame(b"\x03\xf0" + stars, 0x88)
            (line,) = await w.quiet()
        fields = fields_of(server.head)
        assert fields["authorization"] == [f"Bearer {VALUE}"] and "sec-websocket-extensions" not in fields
        assert fields["connection"] == ["Upgrade"] and fields["upgrade"] == ["websocket"]
        assert line["verdict"] == "allowed" and line["bytes_in"] > len(big) and line["path"] == "/ws"

    in_loop(scenario())


@pytest.mark.parametrize(
    "bad",
    [b"\xc1\x05abcde", b"\x81\x85maskabcde", b"\x89\x7e\x00\x7e" + b"x" * 126],
    ids=["packed", "masked", "a long ping"],
)
def test_a_websocket_that_cannot_be_looked_into_is_cut(bad: bytes) -> None:
    async def scenario() -> None:
        server = WebSocketServer()
        async with inside_world(SECRET_RULE, handler=server.serve) as w:
            async with w.guest() as (reader, writer):
                writer.write(get("/ws", extra=ASK_WEBSOCKET) + bad)
                await reader.readuntil(b"\r\n\r\n")
                with pytest.raises(OSError):
                    raise OSError(await reader.read(-1) or "cut")
            (line,) = await w.quiet()
        assert line["verdict"] == "refused" and "a WebSocket " in line["reason"] and " frame " in line["reason"]

    in_loop(scenario())


def test_a_websocket_with_extensions_that_nobody_asked_for_is_refused() -> None:
    async def scenario() -> None:
        accept = accept_for(NONCE) + "\r\nSec-WebSocket-Extensions: permessage-deflate"
        async with inside_world(SECRET_RULE, handler=WebSocketServer(accept).serve) as w:
            answer = await w.ask(get("/ws", extra=ASK_WEBSOCKET))
            (line,) = await w.quiet()
        assert answer.startswith(b"HTTP/1.1 502 ") and line["verdict"] == "refused"

    in_loop(scenario())


def test_a_websocket_whose_accept_is_wrong_is_no_tunnel() -> None:
    async def scenario() -> None:
        server = WebSocketServer(accept=accept_for("another"))
        async with inside_world(LOOK, handler=server.serve) as w:
            answer = await w.ask(get("/ws", extra=ASK_WEBSOCKET) + b"GET /evil")
            assert answer.startswith(b"HTTP/1.1 502 ") and b"switched protocols" in answer
            await w.quiet()
        assert server.got == b""

    in_loop(scenario())


def test_a_101_that_nobody_asked_for_is_no_tunnel() -> None:
    async def scenario() -> None:
        server = WebSocketServer(accept="x")
        async with inside_world(LOOK, handler=server.serve) as w:
            answer = await w.ask(get("/ws") + b"GET /evil")
            assert answer.startswith(b"HTTP/1.1 502 ")
            await w.quiet()
        assert server.got == b""

    in_loop(scenario())


def test_an_upgrade_that_the_server_declines_stays_http() -> None:
    async def scenario() -> None:
        replies = {"/ws": b"HTTP/1.1 426 No\r\nContent-Length: 2\r\n\r\nno"}
        async with inside_world(LOOK, replies=replies) as w:
            answer = await w.ask(get("/ws", extra=ASK_WEBSOCKET) + get("/next", extra=CLOSE))
        assert answer.startswith(b"HTTP/1.1 426 ") and answer.endswith(b"/next")
        assert len(w.recorder.heads) == 2

    in_loop(scenario())
