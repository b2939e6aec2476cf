"""The head of one HTTP/1 request: found, checked for what two readers could read differently, and its host named."""

from __future__ import annotations

import re
from dataclasses import dataclass

import h11

from engine.gateway.errors import GatewayError
from engine.gateway.names import BadName, canonical_name

# What ends a head, or spoils it: a bare LF or CR, a folded header line, NUL.
_END_OR_SPOILED = re.compile(rb"\r\n\r\n|(?<!\r)\n|\r(?=[^\n])|\r\n[ \t]|\x00")
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.[01]")
_AUTHORITY = re.compile(r"([^:@/?#\[\]]+)(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"http://([^/?#]*)(.*)", re.IGNORECASE)

# Between the guest and us only; the upstream connection is ours. Upgrade is judged, not passed on.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings"})


class BadRequest(GatewayError):
    """A request that is refused whatever its host. `status` is what to answer."""

    def __init__(self, brief: str, status: int = 400) -> None:
        super().__init__(brief)
        self.status = status


@dataclass(frozen=True)
class RequestHead:
    """A request that may be judged: `onward` is what goes upstream, `guest` the parser that reads its body."""

    host: str
    method: str
    path: str  # without the query
    onward: h11.Request
    guest: h11.Connection


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


def read_head(head: bytes, port: int) -> RequestHead:
    """Parse one complete head that came in on guest port `port`. Raises BadRequest."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    try:
        parser.receive_data(head)
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise BadRequest(str(error), error.error_status_hint) from error
    if not isinstance(request, h11.Request):
        raise BadRequest("not an HTTP/1 request")
    _check_framing(request)
    _check_upgrade(request)
    hosts = [value for name, value in request.headers if name == b"host"]
    if len(hosts) != 1:
        raise BadRequest(f"{len(hosts)} Host headers where there must be one")
    host = _read_authority(hosts[0].decode("latin-1"), port)
    target = _read_target(request, host, port)
    headers = [(name, value) for name, value in request.headers.raw_items() if name.lower() not in HOP_BY_HOP]
    try:
        onward = h11.Request(method=request.method, target=target, headers=headers)
    except h11.LocalProtocolError as error:
        raise BadRequest(str(error)) from error
    path = target.partition("?")[0]
    return RequestHead(host, request.method.decode("ascii"), path, onward, parser)


def _check_framing(request: h11.Request) -> None:
    names = [name for name, _ in request.headers]
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            raise BadRequest("both Content-Length and Transfer-Encoding")
        if request.http_version == b"1.0":
            raise BadRequest("Transfer-Encoding in HTTP/1.0")


def _check_upgrade(request: h11.Request) -> None:
    """h2c is only ever an offer and is dropped; who asks for a WebSocket would not understand any other answer."""
    offered = [value.strip().lower() for name, value in request.headers if name == b"upgrade"]
    if any(protocol.strip() != b"h2c" for value in offered for protocol in value.split(b",")):
        raise BadRequest("Upgrade over plain HTTP is not supported; use TLS (wss, https)", 501)


def _read_target(request: h11.Request, host: str, port: int) -> str:
    """The target in origin form. Raises BadRequest when it speaks of another host than the Host header."""
    target = request.target.decode("ascii")
    if request.method == b"CONNECT":
        raise BadRequest("CONNECT is not supported: the gateway is not a proxy, connect to the host itself", 405)
    if target.startswith("/") and "#" not in target:
        return target
    if target == "*" and request.method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or "#" in target:
        raise BadRequest("the request target is neither a path nor an http URL")
    if _read_authority(absolute[1], port) != host:
        raise BadRequest("the request target names another host than the Host header")
    rest = absolute[2]
    return rest if rest.startswith("/") else f"/{rest}"


def _read_authority(text: str, port: int) -> str:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise BadRequest(f"not a host name and port: {text[:80]!r}")
    if match[2] is not None and int(match[2]) != port:
        raise BadRequest(f"port {match[2]} in a request that came to port {port}")
    try:
        return canonical_name(match[1])
    except BadName as error:
        raise BadRequest(error.brief, 403) from error
