"""WebSocket frames (RFC 6455), as a client and a server of the tests write and read them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


def accept_for(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


class WebSocket:
    """One side, after the upgrade. A client masks what it sends."""

    def __init__(self, reader: Reader, writer: Writer, *, client: bool) -> None:
        self._reader, self._writer, self._client = reader, writer, client

    async def send(self, data: bytes, kind: int = TEXT, *, last: bool = True) -> None:
        size = len(data)
        if size < 126:
            length = bytes([size])
        else:
            length = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
        head = bytes([kind | (0x80 if last else 0), length[0] | (0x80 if self._client else 0)]) + length[1:]
        if self._client:
            mask = os.urandom(4)
            head, data = head + mask, masked(data, mask)
        self._writer.write(head + data)
        await self._writer.drain()

    async def close(self, code: int, reason: str = "") -> None:
        await self.send(code.to_bytes(2, "big") + reason.encode(), CLOSE)

    async def receive(self) -> tuple[int, bytes]:
        """Kind and content of the next whole message or control frame. Raises IncompleteReadError at the end."""
        first, content = 0, b""
        while True:
            head = await self._reader.readexactly(2)
            kind, size = head[0] & 15, head[1] & 127
            if size >= 126:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
            if bool(head[1] & 128) is self._client:
                raise ValueError("a frame that is masked and must not be, or the reverse")
            mask = b"" if self._client else await self._reader.readexactly(4)
            data = await self._reader.readexactly(size)
            data = masked(data, mask) if mask else data
            if kind >= CLOSE:
                return kind, data
            first, content = first or kind, content + data
            if head[0] & 0x80:
                return first, content


def masked(data: bytes, mask: bytes) -> bytes:
    if not data:
        return data
    repeated = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(data), "big")
