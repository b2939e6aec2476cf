"""The hellos after the first: a server may ask for another one (RFC 8446, 4.1.4), and that names a server, too.

Both directions are read until the server has answered with a ServerHello that is no HelloRetryRequest: after it no
server heeds a ClientHello. Until then all records are in the clear, and a client has nothing to say in handshake
records but a ClientHello.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.gateway.clienthello import ClientHello, ClientHelloParser

_HANDSHAKE = 22
_RECORDS = range(20, 25)  # change of cipher, alert, handshake, data, heartbeat
_HELLO_REQUEST, _SERVER_HELLO = 0, 2
_RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
_HEAD = 4 + 2 + 32  # of a ServerHello: type and length, version, random


class HelloWatch:
    """Reads along what a client and a server send after the first hello. `judge` is called with each further one."""

    def __init__(self, judge: Callable[[ClientHello], None], max_bytes: int) -> None:
        self._judge = judge
        self._max_bytes = max_bytes
        self._over = False
        self._parser: ClientHelloParser | None = None
        self._held = bytearray()  # of a hello that is not whole, or of a record's header
        self._left = 0  # of a record of another kind
        self._server = _ServerReader()

    def from_client(self, data: bytes) -> bytes:
        """What may go on to the server now. Raises what `judge` raises, and MalformedHello."""
        passed = bytearray()
        while data and not self._over:
            if self._parser:
                data = self._read_hello(self._parser, data, passed)
            elif self._left:
                passed += data[: self._left]
                data, self._left = data[self._left :], max(0, self._left - len(data))
            elif not self._held and data[0] == _HANDSHAKE:
                self._parser = ClientHelloParser(self._max_bytes)
            else:
                data = self._read_header(data, passed)
        if self._over:
            passed += self._held + data
            self._held.clear()
        return bytes(passed)

    def from_server(self, data: bytes) -> bytes:
        """To be called before the client gets them, all of them."""
        if not self._over:
            self._over = self._server.has_decided(data)
        return data

    def _read_hello(self, parser: ClientHelloParser, data: bytes, passed: bytearray) -> bytes:
        before = parser.consumed
        hello = parser.feed(data)
        used = parser.consumed - before
        self._held += data[:used]
        if hello is not None:
            self._judge(hello)
            passed += self._held
            self._held.clear()
            self._parser = None
        return data[used:]

    def _read_header(self, data: bytes, passed: bytearray) -> bytes:
        used = 5 - len(self._held)
        self._held += data[:used]
        if self._held[0] not in _RECORDS:
            self._over = True  # no TLS: no server goes on after that
        elif len(self._held) == 5:
            self._left = int.from_bytes(self._held[3:5], "big")
            passed += self._held
            self._held.clear()
        return data[used:]


class _ServerReader:
    """Finds the first ServerHello in what a server sends; the server is the one that was allowed, and not hostile."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._left = 0  # of the record
        self._kind = 0
        self._message = bytearray()  # the start of the handshake message
        self._skip = 0  # of the message, after its start

    def has_decided(self, data: bytes) -> bool:
        """Whether the server has answered by a ServerHello that asks for nothing, or by what no server begins with."""
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                if self._kind == _HANDSHAKE and self._read_handshake(piece):
                    return True
                continue
            used = 5 - len(self._header)
            self._header += data[:used]
            data = data[used:]
            if self._header[0] not in _RECORDS:
                return True
            if len(self._header) == 5:
                self._kind, self._left = self._header[0], int.from_bytes(self._header[3:5], "big")
                self._header.clear()
        return False

    def _read_handshake(self, piece: bytes) -> bool:
        while piece:
            if self._skip:
                piece, self._skip = piece[self._skip :], max(0, self._skip - len(piece))
                continue
            kind = (self._message or piece)[0]
            if kind not in (_HELLO_REQUEST, _SERVER_HELLO):
                return True
            head = _HEAD if kind == _SERVER_HELLO else 4
            used = head - len(self._message)
            self._message += piece[:used]
            piece = piece[used:]
            if len(self._message) < head:
                return False
            if kind == _SERVER_HELLO and self._message[6:] != _RETRY_RANDOM:
                return True
            self._skip = max(0, int.from_bytes(self._message[1:4], "big") + 4 - len(self._message))
            self._message.clear()
        return False
