"""HTTP/2 on both ends: a server that records heads and bodies and can misbehave, a client that shows every event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from inside_world import HOST, InsideWorld

Headers = list[tuple[str, str]]
Answer = Callable[["Server", "Connection", int], Awaitable[None]]


@dataclass
class Request:
    headers: Headers
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None
    trailers: Headers | None = None

    def get(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Connection:
    """One connection of the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.requests: dict[int, Request] = {}
        self.events: list[h2.events.Event] = []
        self.moved = asyncio.Event()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def respond(
        self, stream: int, body: bytes = b"", status: int = 200, *, end: bool = True, extra: Headers | None = None
    ) -> None:
        self.h2.send_headers(stream, [(":status", str(status)), *(extra or [])], end_stream=end and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=end)
        self.flush()

    async def send(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """As the windows allow."""
        while data:
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if size:
                self.h2.send_data(stream, data[:size], end_stream=end and size == len(data))
                data = data[size:]
                self.flush()
                await self.writer.drain()
            else:
                self.moved.clear()
                await self.moved.wait()


class Server:
    """`answer` is called for each request as soon as its head is here."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.connections: list[Connection] = []
        self.answer = answer
        self.tasks: set[asyncio.Task[None]] = set()
        self.reading = asyncio.Event()  # cleared, the server reads nothing
        self.reading.set()

    @property
    def requests(self) -> list[Request]:
        return [request for connection in self.connections for request in connection.requests.values()]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections.append(connection)
        connection.h2.initiate_connection()
        connection.flush()
        try:
            while data := await reader.read(1 << 16):
                for event in connection.h2.receive_data(data):
                    self.take(connection, event)
                connection.flush()
                connection.moved.set()
                await self.reading.wait()
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def take(self, connection: Connection, event: h2.events.Event) -> None:
        connection.events.append(event)
        if isinstance(event, h2.events.RequestReceived):
            connection.requests[event.stream_id] = Request([(str(n), str(v)) for n, v in event.headers])
            if self.answer is not None:
                task = asyncio.ensure_future(self.answer(self, connection, event.stream_id))
                self.tasks.add(task)
        elif isinstance(event, h2.events.DataReceived):
            connection.requests[event.stream_id].body += event.data
            connection.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            connection.requests[event.stream_id].trailers = [(str(n), str(v)) for n, v in event.headers]
        elif isinstance(event, h2.events.StreamReset):
            connection.requests[event.stream_id].reset = event.error_code
        elif isinstance(event, h2.events.StreamEnded):
            connection.requests[event.stream_id].ended = True
            if self.answer is None:
                path = dict(connection.requests[event.stream_id].headers)[":path"]
                connection.respond(event.stream_id, path.encode())


@dataclass
class Reply:
    headers: Headers = field(default_factory=list)
    informational: list[Headers] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: Headers = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> str:
        return dict(self.headers).get(":status", "")


class Client:
    """The guest's. `acknowledge` False: it never opens its windows again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.replies: dict[int, Reply] = {}
        self.acknowledge = True
        self.events: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def ask(self, headers: Headers, *, body: bytes | None = None, end: bool = True) -> int:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers, end_stream=end and body is None)
        if body is not None:
            self.h2.send_data(number, body, end_stream=end)
        self.replies[number] = Reply()
        self.flush()
        return number

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until it holds. Raises EOFError at the end of the connection."""
        while not condition():
            data = await self.reader.read(1 << 16)
            if not data:
                raise EOFError
            for event in self.h2.receive_data(data):
                self.take(event)
            self.flush()

    def take(self, event: h2.events.Event) -> None:
        self.events.append(event)
        number = getattr(event, "stream_id", None)
        reply = self.replies.get(number or 0)
        if reply is None:
            return
        fields: Any = [(str(n), str(v)) for n, v in getattr(event, "headers", None) or []]
        if isinstance(event, h2.events.ResponseReceived):
            reply.headers = fields
        elif isinstance(event, h2.events.InformationalResponseReceived):
            reply.informational.append(fields)
        elif isinstance(event, h2.events.TrailersReceived):
            reply.trailers = fields
        elif isinstance(event, h2.events.DataReceived):
            reply.body += event.data
            if self.acknowledge:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            reply.ended = True
        elif isinstance(event, h2.events.StreamReset):
            reply.reset = event.error_code

    async def reply(self, number: int) -> Reply:
        """The whole of it."""
        reply = self.replies[number]
        await self.until(lambda: reply.ended or reply.reset is not None)
        return reply

    async def get(self, path: str = "/", *extra: tuple[str, str]) -> Reply:
        return await self.reply(self.ask([*head(path), *extra]))


def head(path: str = "/", method: str = "GET", authority: str = HOST) -> Headers:
    return [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]


@asynccontextmanager
async def h2_guest(w: InsideWorld, host: str = HOST) -> AsyncIterator[Client]:
    async with w.guest(host, alpn=("h2", "http/1.1")) as (reader, writer):
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        yield Client(reader, writer)
