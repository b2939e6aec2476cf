"""TLS between memory buffers, over a pair of asyncio's streams: bytes read earlier count, a half-close stays one.

asyncio's own TLS can be given no bytes that were read already, and holds a quarter of a megabyte for each connection.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

from engine.gateway.upstream import Streams

_RAW_BYTES = 128 << 10  # moved at once


class Truncated(ConnectionError):
    """The connection ended without a close_notify: what was received may not be all."""

    def __init__(self) -> None:
        super().__init__("the connection was cut, without an end of TLS")


def end_strictly(context: ssl.SSLContext) -> ssl.SSLContext:
    """Have its connections tell an end without a close_notify from one with it. Returns the context.

    Python before 3.11.4 (Debian 12 has 3.11.2) takes both for the same: github.com/python/cpython/issues/95494.
    """
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def is_cut(error: ssl.SSLError) -> bool:
    """Whether it says that the connection ended without a close_notify."""
    # Python before 3.11.4 has no class for it.
    return isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"


class TlsStream:
    """One side of a TLS connection. Has the methods of a StreamReader and of a StreamWriter that the gateway uses.

    Owns the streams below it: `close` closes them.
    """

    def __init__(
        self, below: Streams, context: ssl.SSLContext, *, server_name: str | None = None, received: bytes = b""
    ) -> None:
        """A client that verifies `server_name`; without one, a server. `received` was read from below already.

        The context is one that ends strictly (`end_strictly`).
        """
        self._reader, self._writer = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._incoming.write(received)
        self._ended = False  # below
        self._answered = False  # it has written of itself since a read from below last waited for room
        self.transport = self._writer.transport

    @property
    def streams(self) -> Streams:
        """As the pair that the rest of the gateway takes."""
        return cast(Streams, (self, self))

    @property
    def alpn(self) -> str | None:
        """The protocol that both sides agreed on."""
        return self._tls.selected_alpn_protocol()

    async def handshake(self) -> None:
        """Raises OSError, of which ssl.SSLError is one. Waits for as long as the peer lets it."""
        while True:
            try:
                self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                pass
            finally:
                self._flush()  # on an error, the alert
            await self._writer.drain()
            await self._fill()

    async def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (-1: everything), b"" after the peer's close_notify. Raises Truncated and OSError.

        Waits for as long as the peer lets it: for what it sends, and, where TLS had to answer that, for it to take the
        answer. It may be given up; nothing is lost.
        """
        if size < 0:
            pieces = []
            while piece := await self.read(_RAW_BYTES):
                pieces.append(piece)
            return b"".join(pieces)
        while True:
            data, at_end = self._decrypt(size)
            if data or at_end:
                return data
            await self._fill()

    def _decrypt(self, size: int) -> tuple[bytes, bool]:
        """What is there, and whether that is the end. One record gives 16 kB at most."""
        pieces: list[bytes] = []
        at_end = False
        try:
            while size > 0:
                piece = self._tls.read(size)
                if not piece:
                    at_end = True
                    break
                pieces.append(piece)
                size -= len(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            at_end = True
        except ssl.SSLError as error:
            if not pieces:
                if is_cut(error):
                    raise Truncated from None
                raise
        self._answered |= self._flush()  # tickets, updates of keys
        return b"".join(pieces), at_end

    async def _fill(self) -> None:
        if self._answered:
            # A peer may ask for answers for ever, and take none: it is read on when they have left. A peer that is
            # gone takes none either; what it had sent before is read all the same.
            with suppress(ConnectionError):
                await self._writer.drain()
            self._answered = False
        data = await self._reader.read(_RAW_BYTES)
        if data:
            self._incoming.write(data)
        elif self._ended:
            raise Truncated
        else:
            self._ended = True
            self._incoming.write_eof()

    def _flush(self) -> bool:
        """Whether there was anything to write."""
        if not self._outgoing.pending:
            return False
        self._writer.write(self._outgoing.read())
        return True

    def write(self, data: bytes) -> None:
        if data:
            self._tls.write(data)
            self._flush()

    async def drain(self) -> None:
        await self._writer.drain()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say close_notify; reading goes on."""
        with suppress(ssl.SSLError):  # the peer's own has not come yet, or data of it have
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        if not self._writer.is_closing():
            with suppress(OSError, ValueError):
                self.write_eof()
        self._writer.close()

    def cut(self) -> None:
        """Close without a close_notify, so that what was sent so far does not look whole."""
        self._writer.close()

    def is_closing(self) -> bool:
        return self._writer.is_closing()

    async def wait_closed(self) -> None:
        await self._writer.wait_closed()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._writer.get_extra_info(name, default)


async def start_tls(
    below: Streams,
    context: ssl.SSLContext,
    timeout_s: float,
    *,
    server_name: str | None = None,
    received: bytes = b"",
) -> TlsStream:
    """Shake hands within `timeout_s`. Raises OSError (TimeoutError included); the streams below stay the caller's."""
    stream = TlsStream(below, context, server_name=server_name, received=received)
    async with asyncio.timeout(timeout_s):
        await stream.handshake()
    return stream
