"""The supervisor between its clients and the guest: same frames on both sides, payloads passed on unread."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vmm.channel.backlog import Backlog
from vmm.channel.conduct import Conduct
from vmm.channel.errors import GuestError
from vmm.channel.greeting import Hello
from vmm.channel.guest import CLOSE_S, READ_SIZE, GuestChannel
from vmm.channel.stream import LocalStream
from vmm.connection import close_writer, drop
from vmm.guest.guestd.wire import (
    CLOSE,
    CREDIT,
    DATA,
    EOF,
    HELLO,
    HELLO_OK,
    MAX_PAYLOAD,
    MORE,
    NONCE_SIZE,
    OPEN,
    PROTOCOL,
    RESULT,
    VERSION,
    Assembly,
    Decoder,
    Frame,
    credit_of,
    decode_object,
    encode_credit,
    encode_frame,
    encode_message,
)
from vmm.unix_socket import bind_private

NOBODY = Hello(VERSION, PROTOCOL, "", "", "")  # says hello while there is no guest
Handler = Callable[[dict[str, Any], LocalStream], Awaitable[dict[str, Any]]]


class Relay:
    """Serves clients on the unix socket `path` for the length of an `async with` block.

    Operations named in `handlers` are answered here: `async (request, stream) -> result`, cancelled when the client
    closes or goes away; what they raise becomes the client's GuestError; `stream.send(data, sub)` sends chunks before.
    All others go to the guest, as streams of this relay's own. `guest` may be replaced at any time.
    """

    def __init__(self, guest: GuestChannel | None, path: Path, handlers: Mapping[str, Handler] | None = None) -> None:
        self.guest = guest
        self.handlers = dict(handlers or {})
        self._path = path
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        listener = bind_private(self._path)
        try:
            self._server = await asyncio.start_unix_server(self._accept, sock=listener)
        except BaseException:
            listener.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._closing = True
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine, so that the task is ours: the stream library logs one that is cancelled as an error."""
        if self._closing:  # accepted just before the end
            drop(writer)
            return
        task = asyncio.create_task(self._serve(reader, writer), name=f"client of {self._path.name}")
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        task.add_done_callback(lambda _: drop(writer))  # also when it was cancelled before it began

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(self, writer)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await client.serve(reader)
        finally:
            await client.close()


class Client:
    """One connected client and its streams, by the client's numbers.

    What the guest sends to a client that does not read waits in its stream, of which the guest's credit is the bound:
    the socket's own buffer gets no more than it asks for.
    """

    def __init__(self, relay: Relay, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.streams: dict[int, Passage | Local] = {}
        self._relay = relay
        self._waiting: dict[Passage, None] = {}  # in the order of their turns
        self._sending: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        """The bytes that wait for the client to read."""
        passages = {*self._waiting, *(stream for stream in self.streams.values() if isinstance(stream, Passage))}
        return self.writer.transport.get_write_buffer_size() + sum(passage.held for passage in passages)

    @property
    def has_room(self) -> bool:
        """Whether a frame may be written at once: nothing waits, and the client reads."""
        return not self._waiting and self._takes_more()

    def _takes_more(self) -> bool:
        transport = self.writer.transport
        return transport.get_write_buffer_size() <= transport.get_write_buffer_limits()[1]

    async def serve(self, reader: asyncio.StreamReader) -> None:
        decoder = Decoder()
        while data := await reader.read(READ_SIZE):
            passed = [self._accept(frame) for frame in decoder.feed(data)]
            if decoder.skipped:
                return  # somebody who does not speak this protocol
            await self.writer.drain()
            if self._relay.guest and any(passed):  # a guest that reads nothing keeps nobody from the supervisor
                await self._relay.guest.drain()

    async def close(self) -> None:
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            stream.close()
        if self._sending:
            self._sending.cancel()
        tasks = [stream.task for stream in streams if isinstance(stream, Local) and stream.task]
        await asyncio.gather(*tasks, *([self._sending] if self._sending else []), return_exceptions=True)
        await close_writer(self.writer, CLOSE_S)

    def offer(self, passage: Passage) -> None:
        """Send what `passage` has for the client, now or once the client reads again."""
        self._waiting[passage] = None
        self._send()
        if self._waiting and self._sending is None:
            self._sending = asyncio.create_task(self._send_later())

    def withdraw(self, passage: Passage) -> None:
        """The client wants nothing more of it."""
        self._waiting.pop(passage, None)

    def _send(self) -> None:
        if self.writer.transport.is_closing():
            self._waiting.clear()
        while self._waiting and self._takes_more():
            passage = next(iter(self._waiting))
            del self._waiting[passage]
            if frame := passage.next_frame():
                self.writer.write(frame)
                self._waiting[passage] = None  # behind the others

    async def _send_later(self) -> None:
        try:
            while self._waiting:
                await self.writer.drain()
                self._send()
        except OSError:
            self._waiting.clear()  # it is gone, which its reader notices
        finally:
            self._sending = None

    def refuse(self, number: int, error: GuestError) -> None:
        self.writer.write(encode_message(number, RESULT, json.dumps(error.to_json()).encode()))

    def _accept(self, frame: Frame) -> bool:
        """Whether it is for the guest."""
        if frame.kind == HELLO:
            peer = self._relay.guest.peer if self._relay.guest else None
            answer = json.dumps(vars(peer or NOBODY)).encode()
            self.writer.write(encode_frame(0, HELLO_OK, 0, frame.payload[:NONCE_SIZE] + answer))
        elif stream := self.streams.get(frame.stream):
            stream.to_answerer(frame)
            return isinstance(stream, Passage)
        elif frame.kind == OPEN:
            return self._open(frame)
        return False

    def _open(self, frame: Frame) -> bool:
        op = frame.payload.partition(b"\n")[0].decode(errors="replace")
        stream: Passage | Local
        if handler := self._relay.handlers.get(op):
            stream = Local(self, frame.stream, handler)
        else:
            guest = self._relay.guest
            try:
                if guest is None:
                    raise GuestError("the sandbox's machine is not up")
                stream = Passage(self, frame.stream, guest)
            except GuestError as error:
                if frame.sub != MORE:  # a longer request is refused once, at its end
                    self.refuse(frame.stream, error)
                return False
        self.streams[frame.stream] = stream
        stream.to_answerer(frame)
        return isinstance(stream, Passage)


class Passage:
    """A client's stream that goes on to the guest: renumbers frames, and holds the guest to the rules of a stream."""

    def __init__(self, client: Client, number: int, guest: GuestChannel) -> None:
        self._client = client
        self._number = number
        self._guest = guest
        self._guest_number = guest.attach(self)
        self._conduct = Conduct()
        self._backlog = Backlog()
        self._granted = 0  # of the guest's credit, not yet passed on
        self._eof = False
        self._answer = b""

    @property
    def held(self) -> int:
        return self._backlog.size + self._conduct.held + len(self._answer)

    def to_answerer(self, frame: Frame) -> None:
        if frame.kind == CREDIT:
            self._conduct.window.give(credit_of(frame))
        elif frame.kind == DATA:
            self._conduct.sent(len(frame.payload))
        self._guest.write(encode_frame(self._guest_number, frame.kind, frame.sub, frame.payload))
        if frame.kind == CLOSE:
            self._client.withdraw(self)
            self._end()

    def accept(self, frame: Frame) -> None:
        """A frame of the guest. It is untrusted: what is against the rules cuts the stream."""
        try:
            message = self._conduct.take(frame)
        except GuestError as error:
            self._guest.write(encode_frame(self._guest_number, CLOSE))
            self.lose(error)
            return
        if frame.kind == DATA and self._client.has_room:
            self._client.writer.write(encode_frame(self._number, DATA, frame.sub, frame.payload))
            return
        if frame.kind == DATA:
            self._backlog.put(frame.sub, frame.payload)
        elif frame.kind == CREDIT:
            self._granted += credit_of(frame)
        elif frame.kind == EOF:
            self._eof = True
        elif message is not None:
            self._conclude(message)
        self._client.offer(self)

    def next_frame(self) -> bytes:
        """What the client gets next; nothing when all has been sent."""
        if self._granted:
            granted, self._granted = self._granted, 0
            return encode_credit(self._number, granted)
        if self._backlog:
            return encode_frame(self._number, DATA, *self._backlog.take())
        if self._eof:
            self._eof = False
            return encode_frame(self._number, EOF)
        part, self._answer = self._answer[:MAX_PAYLOAD], self._answer[MAX_PAYLOAD:]
        return encode_frame(self._number, RESULT, MORE if self._answer else 0, part) if part else b""

    def lose(self, error: GuestError) -> None:
        self._conclude(json.dumps(error.to_json()).encode())
        self._client.offer(self)

    def close(self) -> None:
        self._client.withdraw(self)
        self._guest.write(encode_frame(self._guest_number, CLOSE))
        self._end()

    def _conclude(self, message: bytes) -> None:
        self._answer = message or b"null"  # an empty one is no answer either, but it has an end
        self._end()

    def _end(self) -> None:
        self._guest.detach(self._guest_number)
        self._client.streams.pop(self._number, None)


class Local:
    """A client's stream that a handler of the supervisor answers."""

    def __init__(self, client: Client, number: int, handler: Handler) -> None:
        self.task: asyncio.Task[None] | None = None
        self._client = client
        self._number = number
        self._handler = handler
        self._request = Assembly()
        self._is_wanted = True
        self._stream = LocalStream(number, client.writer.write, client.writer.drain)

    def to_answerer(self, frame: Frame) -> None:
        if frame.kind == OPEN and self.task is None:
            try:
                message = self._request.add(frame)
            except ValueError as error:
                self._stream.fail(GuestError(f"the request cannot be read: {error}"))
                self.close()
                return
            if message is not None:
                self.task = asyncio.create_task(self._answer(message))
        elif frame.kind == CLOSE:
            self._is_wanted = False
            self.close()
        elif frame.kind != RESULT:
            self._stream.accept(frame)

    def close(self) -> None:
        self._client.streams.pop(self._number, None)
        if self.task:
            self.task.cancel()

    async def _answer(self, message: bytes) -> None:
        try:
            request = decode_object(message.partition(b"\n")[2])
            self._stream.answer(await self._handler(request, self._stream))
        except asyncio.CancelledError:
            if self._is_wanted:
                self._stream.fail(GuestError("the sandbox's supervisor ended before it was done"))
            raise
        except Exception as error:  # whatever is wrong with one request, the supervisor lives on
            self._stream.fail(_told(error))
        finally:
            self._client.streams.pop(self._number, None)


def _told(error: Exception) -> GuestError:
    """What the client hears. An error that was made for people has a brief text, whichever package it comes from."""
    if isinstance(brief := getattr(error, "brief", None), str):
        return GuestError(brief, getattr(error, "details", None), getattr(error, "hint", None))
    if isinstance(error, OSError) and error.strerror:
        hint = "free some space" if error.errno == errno.ENOSPC else None
        return GuestError(f"{error.filename}: {error.strerror}" if error.filename else error.strerror, hint=hint)
    return GuestError(f"the supervisor failed: {error}", type(error).__name__)
