"""The way out of a host that has no other: its upstream proxy, by HTTP's CONNECT or SOCKS5.

A proxy resolves the names itself. So the check of addresses does not apply to what goes through one: that a name is
allowed is all that is known. Names in NO_PROXY, and services of this host, are reached without it.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

import h11

from engine.gateway.addresses import forbidden_kind
from engine.gateway.errors import GatewayError
from engine.gateway.host_proxies import VARIABLES
from engine.gateway.limits import Limits
from engine.gateway.upstream import Streams, UpstreamUnreachable
from vmm.connection import drop

Kind = Literal["http", "https", "socks5"]
SCHEMES: Mapping[str, Kind] = {"http": "http", "https": "https", "socks5": "socks5", "socks5h": "socks5"}
_PORTS: Mapping[Kind, int] = {"http": 80, "https": 443, "socks5": 1080}
_LONGEST_ANSWER = 16 << 10
_BUFFER_BYTES = Limits.chunk_bytes


@dataclass(frozen=True)
class Proxy:
    """One proxy. Its credentials are in no text that is made of it."""

    kind: Kind
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"the proxy {self.host}:{self.port}"

    @classmethod
    def read(cls, url: str, variable: str) -> Proxy:
        """What a variable says, as curl reads it: without a scheme it is http. Raises GatewayError, without the URL."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            kind, port = SCHEMES.get(parts.scheme.lower()), parts.port
        except ValueError:
            raise _unreadable(variable) from None
        if kind is None:
            raise GatewayError(f"{variable} names a proxy of the kind {parts.scheme[:20]!r}", hint=_KINDS)
        if not parts.hostname or not parts.hostname.isprintable():
            raise _unreadable(variable)
        return cls(kind, parts.hostname, port or _PORTS[kind], *_credentials(parts))


_KINDS = "http, https and socks5 (socks5h) are known"


def _unreadable(variable: str) -> GatewayError:
    return GatewayError(f"{variable} is no proxy's URL", hint="such as http://proxy.example.com:3128")


def _credentials(parts: SplitResult) -> tuple[str, str]:
    return unquote(parts.username or ""), unquote(parts.password or "")


class Proxies:
    """The proxies of this host by what they are for.

    `own_ports` are those that this very sandbox has published on the host's loopback: a proxy there would be the guest.
    """

    def __init__(
        self, variables: Mapping[str, str] | None = None, own_ports: Callable[[], Collection[int]] = lambda: ()
    ) -> None:
        """`variables` maps "http", "https", "all" and "no" to values. Raises GatewayError for one that is no proxy."""
        self._no = _names((variables or {}).get("no", ""))
        self._own_ports = own_ports
        self._of = {
            key: Proxy.read(value, f"{key.upper()}_PROXY")
            for key, value in (variables or {}).items()
            if key in VARIABLES and key != "no" and value
        }

    def of(self, host: str, protocol: str | None) -> Proxy | None:
        """The proxy for a host; None: without. Other protocols than TLS and HTTP take ALL_PROXY only."""
        proxy = self._of.get({"tls": "https", "http": "http"}.get(protocol or "", "all")) or self._of.get("all")
        return None if proxy is None or "*" in self._no or _below(host, self._no) else proxy

    @property
    def passwords(self) -> tuple[str, ...]:
        """What nobody must see."""
        return tuple(proxy.password for proxy in self._of.values() if proxy.password)

    async def open(
        self, proxy: Proxy, host: str, port: int, limits: Limits, trust: Callable[[], Awaitable[ssl.SSLContext]]
    ) -> Streams:
        """A connection to a host through the proxy. `trust` verifies a proxy that is spoken to by TLS.

        Raises UpstreamUnreachable. Waits `limits.connect_s` for the proxy, and `limits.handshake_s` for its answer.
        """
        await self._check_loop(proxy, limits)
        if proxy.kind == "socks5":
            return await _open_socks(proxy, host, port, limits)
        try:
            async with asyncio.timeout(limits.connect_s):
                below = await asyncio.open_connection(proxy.host, proxy.port, limit=_BUFFER_BYTES)
        except OSError as error:
            raise _no_connection(proxy, error) from error
        try:
            if proxy.kind == "https":
                from engine.gateway.outer import secure

                below = (await secure(below, await trust(), proxy.host, ("http/1.1",), limits)).streams
            async with asyncio.timeout(limits.handshake_s):
                await _ask_for(proxy, host, port, below)
        except BaseException as error:
            drop(below[1])
            if isinstance(error, TimeoutError):
                raise _late(proxy, limits.handshake_s) from error
            if isinstance(error, OSError):
                raise UpstreamUnreachable(f"{proxy} broke off", error.strerror or str(error)) from error
            raise
        return below

    async def _check_loop(self, proxy: Proxy, limits: Limits) -> None:
        """Published ports are on loopback: who has found the proxy there has found the guest."""
        if proxy.port not in self._own_ports():
            return
        try:
            async with asyncio.timeout(limits.resolve_s):
                found = await asyncio.get_running_loop().getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _no_connection(proxy, error) from error
        if any(forbidden_kind(str(item[4][0])) in ("loopback", "unspecified") for item in found):
            raise UpstreamUnreachable(f"{proxy} is a published port of this sandbox itself")


async def _ask_for(proxy: Proxy, host: str, port: int, below: Streams) -> None:
    """CONNECT, and nothing read behind the end of the answer: that is the server's."""
    reader, writer = below
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_ANSWER)
    headers = [("Host", f"{host}:{port}")]
    if proxy.user or proxy.password:
        packed = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode("ascii")
        headers.append(("Proxy-Authorization", f"Basic {packed}"))
    request = h11.Request(method="CONNECT", target=f"{host}:{port}", headers=headers)
    writer.write(client.send(request))
    await writer.drain()
    while True:
        client.receive_data(await _head(proxy, reader))
        try:
            event = client.next_event()
        except h11.RemoteProtocolError as error:
            raise UpstreamUnreachable(f"{proxy} gives no HTTP answer", str(error)) from None
        if isinstance(event, h11.Response):
            break
    if event.status_code == 407:
        raise UpstreamUnreachable(f"{proxy} wants other credentials (407)", "they belong into its URL: user:password@")
    if not 200 <= event.status_code < 300:
        answer = f"{event.status_code} {event.reason.decode('latin-1')[:100]}".strip()
        raise UpstreamUnreachable(f"{proxy} does not connect to {host}:{port}", answer)


async def _head(proxy: Proxy, reader: asyncio.StreamReader) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (byte := await reader.read(1)):
            raise UpstreamUnreachable(f"{proxy} hung up " + ("within" if head else "before") + " its answer")
        head += byte
        if len(head) > _LONGEST_ANSWER:
            raise UpstreamUnreachable(f"{proxy} gives no HTTP answer", "its head has no end")
    return head


async def _open_socks(proxy: Proxy, host: str, port: int, limits: Limits) -> Streams:
    from python_socks import ProxyError, ProxyType  # only who has such a proxy needs it
    from python_socks.async_.asyncio import Proxy as Socks

    user, password = (proxy.user, proxy.password) if proxy.user or proxy.password else (None, None)
    way = Socks(ProxyType.SOCKS5, proxy.host, proxy.port, user, password, rdns=True)
    patience = limits.connect_s + limits.handshake_s
    try:
        connection = await way.connect(host, port, timeout=patience)
    except TimeoutError as error:
        raise _late(proxy, patience) from error
    except OSError as error:
        raise _no_connection(proxy, error) from error
    except (ProxyError, ValueError, AssertionError, IndexError) as error:  # also of answers that it does not expect
        raise UpstreamUnreachable(f"{proxy} does not connect to {host}:{port}", str(error)[:200]) from error
    try:
        return await asyncio.open_connection(sock=connection, limit=_BUFFER_BYTES)
    except BaseException:
        connection.close()
        raise


def _no_connection(proxy: Proxy, error: OSError) -> UpstreamUnreachable:
    return UpstreamUnreachable(f"cannot connect to {proxy}", error.strerror or str(error) or "no answer in time")


def _late(proxy: Proxy, patience_s: float) -> UpstreamUnreachable:
    return UpstreamUnreachable(f"{proxy} did not answer", f"within {patience_s:g} s")


def _names(text: str) -> frozenset[str]:
    """Of NO_PROXY: names, each with all below it, whether written as `a.b`, `.a.b` or `*.a.b`; `*` is everything."""
    words = (word.strip().lower() for word in text.replace(",", " ").split())
    return frozenset(word if word == "*" else word.removeprefix("*").strip(".") for word in words) - {""}


def _below(host: str, names: Iterable[str]) -> bool:
    return any(host == name or host.endswith(f".{name}") for name in names)
