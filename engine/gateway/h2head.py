"""The head of one HTTP/2 request: h2 has parsed it, and leaves unchecked what this checks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from engine.gateway.httphead import BadRequest, method_overrides, read_authority

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"[!-~]+")

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class RequestHead:
    """A request that may be judged. `headers` are those that may go on, without the host and the pseudo-headers."""

    method: str
    target: str
    headers: Headers
    overrides: tuple[str, ...]

    @property
    def accept(self) -> str:
        return b",".join(value for name, value in self.headers if name == b"accept").decode("latin-1")

    def onward(self, host: str, target: str, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """What goes upstream."""
        return [
            (b":method", self.method.encode()),
            (b":scheme", b"https"),
            (b":authority", host.encode()),
            (b":path", target.encode()),
            *headers,
        ]


def read_head(fields: Iterable[tuple[bytes, bytes]], port: int, inside: str, *, ended: bool) -> RequestHead:
    """Of a request inside TLS with `inside`; `ended` when it has no body. Raises BadRequest."""
    everything = [(bytes(name), bytes(value)) for name, value in fields]
    pseudo = {name: value for name, value in everything if name.startswith(b":")}
    headers = [(name, value) for name, value in everything if not name.startswith(b":")]
    if b":protocol" in pseudo:
        raise BadRequest("WebSockets over HTTP/2 are not supported; use HTTP/1.1", 501)
    method = pseudo.get(b":method", b"")
    if method == b"CONNECT":
        raise BadRequest("CONNECT is not supported: the gateway is not a proxy, connect to the host itself", 405)
    if not _TOKEN.fullmatch(method):
        raise BadRequest("the method is no token")
    if pseudo.get(b":scheme") != b"https":
        raise BadRequest("the scheme is not https")
    _check_authorities(pseudo, headers, port, inside)
    target = pseudo.get(b":path", b"")
    if (
        not _TARGET.fullmatch(target)
        or b"#" in target
        or (target[:1] != b"/" and (target, method) != (b"*", b"OPTIONS"))
    ):
        raise BadRequest("the request target is no path")
    for name, value in headers:
        if name == b"expect" and value.strip().lower() != b"100-continue":
            raise BadRequest("an expectation other than 100-continue", 417)
        if name == b"content-length" and ended and value != b"0":  # h2 looks at bodies only
            raise BadRequest("a Content-Length without a body")
    return RequestHead(
        method=method.decode("ascii"),
        target=target.decode("ascii"),
        headers=[(name, value) for name, value in headers if name != b"host"],
        overrides=method_overrides(headers),
    )


def _check_authorities(pseudo: dict[bytes, bytes], headers: Headers, port: int, inside: str) -> None:
    named = [value for name, value in [*pseudo.items(), *headers] if name in (b":authority", b"host")]
    if not named:
        raise BadRequest("neither :authority nor Host")
    if any(read_authority(value.decode("latin-1"), port) != inside for value in named):
        raise BadRequest("the request names another host than the TLS connection", 421)
