"""The head of one HTTP/1 request: found, checked for what two readers could read differently, and its host named."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import h11

from engine.gateway.errors import GatewayError
from engine.gateway.names import BadName, canonical_name

# What ends a head, or spoils it: a bare LF or CR, a folded header line, NUL.
_END_OR_SPOILED = re.compile(rb"\r\n\r\n|(?<!\r)\n|\r(?=[^\n])|\r\n[ \t]|\x00")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.[01]")
_AUTHORITY = re.compile(r"([^:@/?#\[\]]+)(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)

# Between two neighbours only: the guest and us, us and the upstream. An upgrade is judged, not passed on.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings"})
_NOT_ONWARD = HOP_BY_HOP | {b"te", b"trailer"}
# A server that took these off a request at the guest's word would see another request than we do.
_NEVER_NAMED = frozenset({b"host", b"authorization", b"content-length", b"transfer-encoding", b"cookie"})
_OVERRIDES = frozenset({b"x-http-method-override", b"x-http-method", b"x-method-override"})
_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class BadRequest(GatewayError):
    """A request that is refused whatever its host. `status` is what to answer."""

    def __init__(self, brief: str, status: int = 400) -> None:
        super().__init__(brief)
        self.status = status


@dataclass(frozen=True)
class RequestHead:
    """A request that may be judged. `guest` is the parser that reads its body.

    `target` is in origin form as the guest spelt it, `headers` are those that may go on, `overrides` the methods that
    some of them name. `websocket` is the Sec-WebSocket-Accept that answers it, None when it asks for no WebSocket.
    """

    host: str
    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    version: str
    guest: h11.Connection
    overrides: tuple[str, ...] = ()
    websocket: bytes | None = None

    @property
    def path(self) -> str:
        """Without the query, as the guest spelt it."""
        return self.target.partition("?")[0]

    @property
    def accept(self) -> str:
        values = [value for name, value in self.headers if name.lower() == b"accept"]
        return b",".join(values).decode("latin-1")

    def onward(self, target: str, headers: list[tuple[bytes, bytes]]) -> h11.Request:
        """What goes upstream. Raises BadRequest, and says nothing of the headers, which may be ours."""
        if self.websocket is not None:
            headers = [*headers, (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        try:
            return h11.Request(method=self.method, target=target, headers=headers)
        except h11.LocalProtocolError:
            raise BadRequest("a header that cannot be passed on") from None


def head_length(buffer: bytes | bytearray, scanned: int = 0) -> int | None:
    """The length of the head at the start of the buffer, or None while it is incomplete.

    `scanned` bytes have been looked at by an earlier call. Raises BadRequest as soon as it is sure that no head that
    we accept comes of this.
    """
    first_line_end = buffer.find(b"\r\n")
    if first_line_end + 2 > scanned and first_line_end >= 0 and not _REQUEST_LINE.fullmatch(buffer, 0, first_line_end):
        if buffer.startswith(b"PRI * HTTP/2.0"):
            raise BadRequest("HTTP/2 without TLS is not supported", 505)
        raise BadRequest("not an HTTP/1 request line")
    if buffer and not re.match(rb"[!-~]", buffer):
        raise BadRequest("neither TLS nor an HTTP request")
    found = _END_OR_SPOILED.search(buffer, max(0, scanned - 3))
    if found is None:
        return None
    if found.group() == b"\r\n\r\n":
        return found.end()
    raise BadRequest("a bare line feed, a bare carriage return, a folded line or NUL in the request head")


def read_head(head: bytes, port: int, inside: str | None = None) -> RequestHead:
    """Parse one complete head that came in on guest port `port`; `inside` is the host of the TLS around it.

    Raises BadRequest, with status 421 where the request is for another host than that.
    """
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    try:
        parser.receive_data(head)
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise BadRequest(str(error), error.error_status_hint) from error
    if not isinstance(request, h11.Request):
        raise BadRequest("not an HTTP/1 request")
    _check_framing(request)
    websocket = _read_upgrade(request, inside is not None)
    hosts = [value for name, value in request.headers if name == b"host"]
    if len(hosts) != 1:
        raise BadRequest(f"{len(hosts)} Host headers where there must be one")
    host = read_authority(hosts[0].decode("latin-1"), port)
    if inside is not None and host != inside:
        raise BadRequest("the Host header names another host than the TLS connection", 421)
    raw = request.headers.raw_items()
    return RequestHead(
        host=host,
        method=request.method.decode("ascii"),
        target=_read_target(request, host, port, "http" if inside is None else "https"),
        headers=_onward_headers(raw, host, port, 80 if inside is None else 443),
        version=request.http_version.decode("ascii"),
        guest=parser,
        overrides=method_overrides(raw),
        websocket=websocket,
    )


def method_overrides(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """The methods that headers name: frameworks take them for the request's."""
    named = (value for name, value in headers if name.lower().replace(b"_", b"-") in _OVERRIDES)
    return tuple(method.decode("latin-1") for value in named for method in value.split(b","))


def _onward_headers(raw: list[tuple[bytes, bytes]], host: str, port: int, default: int) -> list[tuple[bytes, bytes]]:
    """Without what is meant for the next hop only, and the host in the form in which it was judged."""
    named = _tokens(raw, b"connection") - {b"close", b"keep-alive", b"upgrade"}
    if named & _NEVER_NAMED:
        raise BadRequest("the Connection header names a header that is not the connection's")
    spoken = host if port == default else f"{host}:{port}"
    return [
        (name, spoken.encode("ascii") if name.lower() == b"host" else value)
        for name, value in raw
        if name.lower() not in _NOT_ONWARD and name.lower() not in named
    ]


def _tokens(raw: Iterable[tuple[bytes, bytes]], header: bytes) -> set[bytes]:
    values = (value for name, value in raw if name.lower() == header)
    return {token.strip().lower() for value in values for token in value.split(b",")} - {b""}


def _check_framing(request: h11.Request) -> None:
    names = [name for name, _ in request.headers]
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            raise BadRequest("both Content-Length and Transfer-Encoding")
        if request.http_version == b"1.0":
            raise BadRequest("Transfer-Encoding in HTTP/1.0")
    if any(value.strip().lower() != b"100-continue" for name, value in request.headers if name == b"expect"):
        raise BadRequest("an expectation other than 100-continue", 417)


def _read_upgrade(request: h11.Request, inside_tls: bool) -> bytes | None:
    """The answer that a WebSocket's request must get, None for any other request.

    h2c is only ever an offer and is dropped; who asks for a WebSocket would not understand any other answer.
    """
    raw = request.headers.raw_items()
    offered = _tokens(raw, b"upgrade") - {b"h2c"}
    if not offered:
        return None
    if not inside_tls:
        raise BadRequest("Upgrade over plain HTTP is not supported; use TLS (wss, https)", 501)
    if offered != {b"websocket"}:
        raise BadRequest("Upgrade to anything but a WebSocket is not supported", 501)
    keys = [value for name, value in request.headers if name == b"sec-websocket-key"]
    asked = b"upgrade" in _tokens(raw, b"connection")
    if request.method != b"GET" or request.http_version != b"1.1" or len(keys) != 1 or not asked:
        raise BadRequest("a malformed request for a WebSocket")
    # SHA-1 as the protocol has it: it proves that the server speaks it, and nothing else.
    return base64.b64encode(hashlib.sha1(keys[0] + _WEBSOCKET, usedforsecurity=False).digest())


def _read_target(request: h11.Request, host: str, port: int, scheme: str) -> str:
    """The target in origin form. Raises BadRequest when it speaks of another host than the Host header."""
    target = request.target.decode("ascii")
    if request.method == b"CONNECT":
        raise BadRequest("CONNECT is not supported: the gateway is not a proxy, connect to the host itself", 405)
    if target.startswith("/") and "#" not in target:
        return target
    if target == "*" and request.method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or absolute[1].lower() != scheme or "#" in target:
        raise BadRequest(f"the request target is neither a path nor an {scheme} URL")
    if read_authority(absolute[2], port) != host:
        raise BadRequest("the request target names another host than the Host header")
    rest = absolute[3]
    return rest if rest.startswith("/") else f"/{rest}"


def read_authority(text: str, port: int) -> str:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise BadRequest(f"not a host name and port: {text[:80]!r}")
    if match[2] is not None and int(match[2]) != port:
        raise BadRequest(f"port {match[2]} in a request that came to port {port}", 421)
    try:
        return canonical_name(match[1])
    except BadName as error:
        raise BadRequest(error.brief, 403) from error
