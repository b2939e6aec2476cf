"""HTTP sessions of the gateway, of both versions, between a guest and a server in memory.

An input is what the guest sends; after a line `%%` follows what the server says. Whatever the two say: the server has
got the requests that the journal calls allowed, in one spelling, with the credential, and nothing else.
"""

from __future__ import annotations

import asyncio
import atexit
import re
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from memory_streams import MemoryStream

from engine.gateway.context import Context
from engine.gateway.h2relay import Relay
from engine.gateway.http import HttpSession, Inside
from engine.gateway.journal import Journal, JournalLine
from engine.gateway.limits import Limits
from engine.gateway.policy import Policy
from engine.gateway.rules import Injection, Rule
from engine.gateway.upstream import Streams

HOST, VALUE, HELD = "api.example.com", "sk-real-0123456789abcdef", "sk-held-by-the-guest"
KEY = Injection("key", "authorization", "bearer", drop=("x-api-key",), placeholders=(HELD,))
RULE = Rule(HOST, methods=("GET", "POST"), paths=("/ok/**",), injections=(KEY,))
SEPARATOR = b"\n%%\n"
_SECONDS = 20.0  # that no input may take; none of them waits for anything
_LIMITS = Limits(linger_s=1.0)
_LOOP = asyncio.new_event_loop()  # one for all inputs: to make one takes longer than most of them
atexit.register(_LOOP.close)


class _Lines:
    """A journal that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[JournalLine] = []

    def write(self, entry: JournalLine) -> None:
        assert entry not in self.lines, "a line is written twice"
        self.lines.append(entry)


class _World:
    """The servers that were dialled. Each says `says`; without, those of HTTP/1 answer requests."""

    def __init__(self, says: bytes, alpn: str) -> None:
        self.servers: list[MemoryStream] = []
        self.journal = _Lines()
        self.asked: asyncio.Event | None = None  # the guest has said all; None: a server waits for its first request
        self._says, self._alpn = says, alpn
        self.context = Context(
            policy=Policy([RULE]),
            journal=cast(Journal, self.journal),
            resolver=cast(Any, None),
            connect=cast(Any, None),
            connect_local=cast(Any, None),
            limits=_LIMITS,
            secrets=lambda name: VALUE,
        )

    def connect(self) -> MemoryStream:
        answering = not self._says and self._alpn != "h2"
        server = MemoryStream(
            [self._says[at : at + 600] for at in range(0, len(self._says), 600)],
            hear=answer_all if answering else None,
            alpn=self._alpn,
        )
        if not answering:
            server.wait_for(self.asked or server.heard)
        self.servers.append(server)
        return server

    async def run(self, session: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(_SECONDS):
            await session
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        assert not rest, f"tasks left behind: {rest}"
        assert not self.context.live, "a request has no line"

    def sent(self) -> list[tuple[str | None, str | None]]:
        """Method and path of what went to a server, as the journal has it."""
        return [(line.method, line.path) for line in self.journal.lines if line.bytes_out]


# HTTP/1


def requests_in(data: bytes, switched: bool = False) -> list[tuple[str, str, dict[str, list[str]], bool]]:
    """Method, target, fields, and whether it is whole, of all requests in it. Slow, and stricter than any server.

    `switched`: the server takes what comes behind a request for a WebSocket for no HTTP.
    """
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"a head without an end: {head!r}"
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", head), f"a stray byte in {head!r}"
        first, *lines = head.split(b"\r\n")
        method, target, version = first.split(b" ")
        assert version == b"HTTP/1.1"
        fields: dict[str, list[str]] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            assert colon and re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), f"no header: {line!r}"
            fields.setdefault(name.lower().decode(), []).append(value.strip().decode("latin-1"))
        length, coding = fields.get("content-length", []), fields.get("transfer-encoding", [])
        assert len(length) + len(coding) <= 1 and coding in ([], ["chunked"])
        whole = True
        if switched and "upgrade" in fields:
            data = b""
        elif length:
            whole = len(data) >= int(length[0])
            data = data[int(length[0]) :]
        elif coding:
            whole, data = _past_chunks(data)
        found.append((method.decode(), target.decode(), fields, whole))
    return found


def _past_chunks(data: bytes) -> tuple[bool, bytes]:
    while True:
        line, end, rest = data.partition(b"\r\n")
        if not end:
            return False, b""
        size = int(line, 16)
        assert re.fullmatch(rb"[0-9a-fA-F]+", line), f"no chunk's size: {line!r}"
        if len(rest) < size + 2:
            return False, b""
        assert rest[size : size + 2] == b"\r\n"
        data = rest[size + 2 :]
        if size == 0:
            return True, data


def answer_all(server: MemoryStream) -> None:
    """An answer for each request that is whole by now."""
    try:
        found = requests_in(bytes(server.got))
    except AssertionError:
        return  # it may not be whole; in the end it is looked at again
    whole = sum(request[3] for request in found)
    while server.answers < whole:
        head = found[server.answers][0] == "HEAD"
        server.answers += 1
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if head else b"ok"))


def http_session(data: bytes) -> None:
    """HTTP/1 inside TLS."""
    _LOOP.run_until_complete(_http_session(*_halves(data)))


def _halves(data: bytes) -> tuple[bytes, bytes]:
    guest, _, server = data.partition(SEPARATOR)
    return guest, server


async def _http_session(said: bytes, answered: bytes) -> None:
    world = _World(answered, "http/1.1")
    guest = MemoryStream(said[at : at + 600] for at in range(0, len(said), 600))

    async def dial(entry: JournalLine, decision: object) -> Streams:
        return world.connect().streams

    entry = JournalLine(port=443, protocol="tls", host=HOST)
    session = HttpSession(
        world.context, guest.streams, 443, inside=Inside(HOST, entry, world.connect().streams, None, dial)
    )
    await world.run(session.serve(asyncio.get_running_loop().time() + _SECONDS))
    switched = b" 101 " in answered
    got = [request for server in world.servers for request in requests_in(bytes(server.got), switched)]
    for method, target, fields, _ in got:
        assert fields["host"] == [HOST] and fields["authorization"] == [f"Bearer {VALUE}"]
        assert method in ("GET", "HEAD", "POST") and (target + "/").startswith(("/ok/", "/ok?"))
        assert not {"x-api-key", "x_api_key", "te", "keep-alive"} & fields.keys()
        assert fields.get("connection", ["Upgrade"]) == ["Upgrade"]
    heads = [(method, target.partition("?")[0]) for method, target, _, _ in got]
    assert heads == world.sent(), f"the server got {heads}, the journal has {world.sent()}"
    if VALUE.encode() not in said:
        assert VALUE.encode() not in guest.got, "the value comes back"


HTTP_SEEDS = tuple(
    text.encode()
    for text in (
        f"GET /ok/a HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /ok/b?c HTTP/1.1\r\nHost: {HOST}\r\nX-Api-Key: {HELD}\r\n\r\n",
        f"POST /ok/a HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n",
        f"POST /ok/a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\nabcGET /no HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        f"GET https://{HOST}:443/ok/%61 HTTP/1.0\r\nHost: API.example.com.\r\nConnection: close, x\r\nX: a\r\n\r\n",
        f"POST /ok/a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"HEAD /ok/a HTTP/1.1\r\nHost: {HOST}\r\n\r\nPOST /ok/a HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
        f"GET /ok/ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "
        "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nabc\n%%\nHTTP/1.1 101 Yes\r\nUpgrade: websocket"
        "\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nabc",
        f"GET /ok/a HTTP/1.1\r\nHost: {HOST}\r\n\r\n\n%%\nHTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n18\r\n{VALUE}\r\n0\r\nX-Sum: {VALUE}\r\n\r\n",
        f"GET /ok/a HTTP/1.1\r\nHost: {HOST}\r\n\r\n\n%%\nHTTP/1.0 200 {VALUE}\r\n\r\n{VALUE}",
    )
)


# HTTP/2


def h2_session(data: bytes) -> None:
    """HTTP/2 inside TLS; the guest's preface need not be in the input."""
    _LOOP.run_until_complete(_h2_session(*_halves(data)))


_GOAWAY = 7
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


async def _h2_session(said: bytes, answered: bytes) -> None:
    world = _World(answered, "h2")
    if not said.startswith(_PREFACE[:3]):
        said = _PREFACE + said
    first = world.connect()
    guest = MemoryStream([said[at : at + 300] for at in range(0, len(said), 300)], before_end=first.empty, alpn="h2")
    first.wait_for(guest.empty)
    world.asked = guest.empty

    async def dial(entry: JournalLine, decision: object) -> Any:
        return world.connect()

    entry = JournalLine(port=443, protocol="tls", host=HOST)
    relay = Relay(world.context, guest.tls, entry, first.tls, None, dial)
    await world.run(relay.serve())
    got = [headers for server in world.servers for headers in _h2_requests(bytes(server.got))]
    for headers in got:
        fields: dict[str, list[str]] = {}
        for name, value in headers:
            fields.setdefault(name, []).append(value)
        assert fields[":authority"] == [HOST] and fields[":scheme"] == ["https"] and "host" not in fields
        assert fields["authorization"] == [f"Bearer {VALUE}"]
        assert fields[":method"][0] in ("GET", "HEAD", "POST")
        assert (fields[":path"][0] + "/").startswith(("/ok/", "/ok?"))
        assert not {"x-api-key", "x_api_key", "connection", ":protocol"} & fields.keys()
        assert (fields[":method"][0], fields[":path"][0].partition("?")[0]) in world.sent()
    assert len(world.sent()) <= _rightly_named(said), "a request for another host went on"
    if VALUE.encode() not in said:
        _no_value_for(bytes(guest.got))


def _h2_requests(data: bytes) -> list[list[tuple[str, str]]]:
    """What a server of h2's own makes of it. Raises ProtocolError."""
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    server.initiate_connection()
    found = []
    for event in server.receive_data(data):
        if isinstance(event, h2.events.RequestReceived):
            found.append([(str(name), str(value)) for name, value in event.headers])
    return found


def _rightly_named(data: bytes) -> int:
    """How many requests of the guest name the host of the connection wherever they name one, and do so."""
    guest = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=False)
    )
    guest.initiate_connection()
    guest.max_inbound_frame_size = 1 << 16
    count, at, end = 0, 0, len(_PREFACE)
    with suppress(h2.exceptions.ProtocolError):
        while at < end <= len(data):
            events = guest.receive_data(data[at:end]) if at == 0 or data[at + 3] != _GOAWAY else []
            for event in events:
                if isinstance(event, h2.events.RequestReceived):
                    names = [bytes(value) for name, value in event.headers if name in (b":authority", b"host")]
                    count += bool(names) and all(
                        name.lower().removesuffix(b":443").removesuffix(b".") == HOST.encode() for name in names
                    )
            at, end = end, end + 9 + int.from_bytes(data[end : end + 3], "big")
    return count


def _no_value_for(data: bytes) -> None:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    with suppress(h2.exceptions.ProtocolError):  # it answers requests that this client knows nothing of
        for event in client.receive_data(data):
            assert VALUE not in repr(event)
    assert VALUE.encode() not in data, "the value comes back"


def _h2_seeds() -> tuple[bytes, ...]:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False))
    client.initiate_connection()
    head = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/ok/a")]
    seeds = [client.data_to_send()]
    client.send_headers(1, head, end_stream=True)
    seeds.append(seeds[0] + client.data_to_send())
    client.send_headers(3, [(":method", "POST"), *head[1:], ("x-api-key", HELD)])
    client.send_data(3, b"abc", pad_length=3)
    client.send_headers(3, [("x-sum", "1")], end_stream=True)
    client.send_headers(5, [*head[:3], (":path", "/no")], end_stream=True)
    client.send_headers(7, [*head[:2], (":authority", "evil.example.com"), head[3]], end_stream=True)
    client.ping(bytes(8))
    client.reset_stream(5)
    seeds.append(seeds[1] + client.data_to_send())
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    server.receive_data(seeds[1])
    server.send_headers(1, [(":status", "103"), ("link", "</a>")])
    server.send_headers(1, [(":status", "200"), ("x", VALUE)])
    server.send_data(1, VALUE.encode())
    server.send_headers(1, [("grpc-status", "0")], end_stream=True)
    answer = server.data_to_send()
    goaway = bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + bytes(8)
    seeds += [seeds[1] + SEPARATOR + answer, seeds[1] + SEPARATOR + answer[:40] + goaway, seeds[2] + goaway]
    return tuple(seeds)


H2_SEEDS = _h2_seeds()
