"""The server name and the protocols in a TLS ClientHello: a small, strict, incremental parser (RFC 8446, RFC 6066).

No library on hand reads a ClientHello that it is not itself going to answer, and of the message we need two fields.
A ClientHello may carry another one, encrypted (ECH, RFC 9849), with the name that the client really asks for: then the
server name that can be read is not the one that is reached. Browsers send a decoy of it with each hello (GREASE), made
so that nobody but the server can tell the two apart; so for us there is only "carries one".
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.gateway.errors import GatewayError

_HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HIDDEN = frozenset({0xFE0D, 0xFFCE})  # encrypted_client_hello, and the encrypted_server_name of its drafts
_ALPN = 16  # RFC 7301
_HOST_NAME = 0
_LONGEST_RECORD = 1 << 14


class MalformedHello(GatewayError):
    """These bytes do not begin with a well-formed ClientHello."""


@dataclass(frozen=True)
class ClientHello:
    """What we read of it. `server_name` is as sent; None when the client named no host. `alpn` are its offers."""

    server_name: str | None
    alpn: tuple[str, ...] = ()
    hides_name: bool = False  # it carries an encrypted hello, or a decoy of one


class ClientHelloParser:
    """Feed it bytes as they come, in pieces of any size; the work done is linear in the bytes fed.

    The message may be spread over TLS records. `max_bytes` bounds everything fed before the hello is complete.
    """

    def __init__(self, max_bytes: int = 16 << 10) -> None:
        self._max_bytes = max_bytes
        self._fed = 0
        self._header = bytearray()
        self._record_left = 0
        self._message = bytearray()

    @property
    def consumed(self) -> int:
        """The bytes that it has taken: of the last ones fed to it, those after the hello are not among them."""
        return self._fed

    def feed(self, data: bytes) -> ClientHello | None:
        """The hello once it is complete, None before. Raises MalformedHello as soon as that is certain."""
        view = memoryview(data)
        while len(view):
            if not self._record_left:
                view = self._feed_header(view)
                continue
            piece = view[: self._record_left]
            view = view[len(piece) :]
            self._message += piece
            self._record_left -= len(piece)
            self._count(len(piece))
            if (hello := self._finished()) is not None:
                return hello
        return None

    def _feed_header(self, view: memoryview) -> memoryview:
        piece = view[: 5 - len(self._header)]
        self._header += piece
        self._count(len(piece))
        if self._header[0] != _HANDSHAKE_RECORD or (len(self._header) > 1 and self._header[1] != 3):
            raise MalformedHello("not a TLS handshake record")
        if len(self._header) == 5:
            self._record_left = int.from_bytes(self._header[3:5], "big")
            self._header.clear()
            if not 0 < self._record_left <= _LONGEST_RECORD:
                raise MalformedHello(f"a TLS record of {self._record_left} bytes")
        return view[len(piece) :]

    def _count(self, size: int) -> None:
        self._fed += size
        if self._fed > self._max_bytes:
            raise MalformedHello(f"the ClientHello is longer than {self._max_bytes} bytes")

    def _finished(self) -> ClientHello | None:
        message = self._message
        if message[0] != _CLIENT_HELLO:
            raise MalformedHello("the first TLS message is not a ClientHello")
        if len(message) < 4:
            return None
        end = 4 + int.from_bytes(message[1:4], "big")
        if end > self._max_bytes:
            raise MalformedHello(f"the ClientHello is longer than {self._max_bytes} bytes")
        if len(message) < end:
            return None
        if len(message) > end or self._record_left:
            raise MalformedHello("bytes after the ClientHello in its own record")
        return _read_hello(_Bytes(bytes(message[4:])))


class _Bytes:
    """A cursor over length-prefixed fields."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) < size:
            raise MalformedHello("a field of the ClientHello is cut short")
        self._at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, prefix: int) -> bytes:
        return self.take(self.number(prefix))


def _read_hello(body: _Bytes) -> ClientHello:
    body.take(2 + 32)  # legacy_version, random
    body.vector(1)  # session id
    body.vector(2)  # cipher suites
    body.vector(1)  # compression methods
    if not body:
        return ClientHello(None)
    extensions = _Bytes(body.vector(2))
    if body:
        raise MalformedHello("bytes after the extensions of the ClientHello")
    seen: dict[int, bytes] = {}
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind in seen:
            # A server might take the one, we the other.
            raise MalformedHello(f"extension {kind} appears twice in the ClientHello")
        seen[kind] = content
    name = _read_server_name(seen[_SERVER_NAME]) if _SERVER_NAME in seen else None
    protocols = _read_protocols(seen[_ALPN]) if _ALPN in seen else ()
    return ClientHello(name, protocols, hides_name=not _HIDDEN.isdisjoint(seen))


def _read_protocols(content: bytes) -> tuple[str, ...]:
    field = _Bytes(content)
    names = _Bytes(field.vector(2))
    if field:
        raise MalformedHello("bytes after the protocols in the ClientHello")
    protocols = []
    while names:
        protocols.append(names.vector(1).decode("latin-1"))
    return tuple(protocols)


def _read_server_name(content: bytes) -> str:
    field = _Bytes(content)
    names = _Bytes(field.vector(2))
    kind, name = names.number(1), names.vector(2)
    if field or names or kind != _HOST_NAME:
        raise MalformedHello("the server name extension must hold exactly one host name")
    if not name or not all(0x21 <= byte < 0x7F for byte in name):
        raise MalformedHello("the server name is not printable ASCII")
    return name.decode("ascii")
