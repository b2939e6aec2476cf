"""The supervisor between its clients and the guest: same frames on both sides, payloads passed on unread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vmm.channel.errors import GuestError
from vmm.channel.greeting import Hello
from vmm.channel.guest import CLOSE_S, READ_SIZE, GuestChannel
from vmm.channel.stream import LocalStream
from vmm.connection import close_writer
from vmm.errors import VmmError
from vmm.guest.agent import (
    CLOSE,
    CREDIT,
    DATA,
    HELLO,
    HELLO_OK,
    MAX_MESSAGE,
    MORE,
    NONCE_SIZE,
    OPEN,
    PROTOCOL,
    RESULT,
    VERSION,
    WINDOW,
    Decoder,
    Frame,
    credit_of,
    decode_object,
    encode_frame,
    encode_message,
)

NOBODY = Hello(VERSION, PROTOCOL, "", "", "")  # says hello while there is no guest
Handler = Callable[[dict[str, Any], LocalStream], Awaitable[dict[str, Any]]]


class Relay:
    """Serves clients on the unix socket `path` for the length of an `async with` block.

    Operations named in `handlers` are answered here: `async (request, stream) -> result`, cancelled when the client
    closes or goes away, a VmmError becomes the client's GuestError; `stream.send(data, sub)` sends chunks before it.
    All others go to the guest, as streams of this relay's own. `guest` may be replaced at any time.
    """

    def __init__(self, guest: GuestChannel | None, path: Path, handlers: Mapping[str, Handler] | None = None) -> None:
        self.guest = guest
        self.handlers = dict(handlers or {})
        self._path = path
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if len(os.fsencode(self._path)) > 107:
            raise GuestError(f"socket path too long: {self._path}")
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(os.fspath(self._path))
            self._path.chmod(0o600)  # nobody can connect before it listens, so nobody gets in before this
            self._server = await asyncio.start_unix_server(self._serve, sock=listener)
        except BaseException:
            listener.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._clients.add(task)
        client = Client(self, writer)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await client.serve(reader)
        finally:
            await client.close()
            self._clients.discard(task)


class Client:
    """One connected client and its streams, by the client's numbers."""

    def __init__(self, relay: Relay, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.streams: dict[int, Passage | Local] = {}
        self._relay = relay

    async def serve(self, reader: asyncio.StreamReader) -> None:
        decoder = Decoder()
        while data := await reader.read(READ_SIZE):
            for frame in decoder.feed(data):
                self._accept(frame)
            if decoder.skipped:
                return  # somebody who does not speak this protocol
            await self.writer.drain()
            if self._relay.guest:
                await self._relay.guest.drain()

    async def close(self) -> None:
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            stream.close()
        await asyncio.gather(*(s.task for s in streams if isinstance(s, Local) and s.task), return_exceptions=True)
        await close_writer(self.writer, CLOSE_S)

    def refuse(self, number: int, error: GuestError) -> None:
        self.writer.write(encode_message(number, RESULT, json.dumps(error.to_json()).encode()))

    def _accept(self, frame: Frame) -> None:
        if frame.kind == HELLO:
            peer = self._relay.guest.peer if self._relay.guest else None
            answer = json.dumps((peer or NOBODY)._asdict()).encode()
            self.writer.write(encode_frame(0, HELLO_OK, 0, frame.payload[:NONCE_SIZE] + answer))
        elif stream := self.streams.get(frame.stream):
            stream.to_answerer(frame)
        elif frame.kind == OPEN:
            self._open(frame)

    def _open(self, frame: Frame) -> None:
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
                return
        self.streams[frame.stream] = stream
        stream.to_answerer(frame)


class Passage:
    """A client's stream that goes on to the guest; renumbers frames and watches that the guest keeps to its credit."""

    def __init__(self, client: Client, number: int, guest: GuestChannel) -> None:
        self._client = client
        self._number = number
        self._guest = guest
        self._guest_number = guest.attach(self)
        self._credit = WINDOW
        self._result_size = 0

    def to_answerer(self, frame: Frame) -> None:
        if frame.kind == CREDIT:
            self._credit = min(WINDOW, self._credit + credit_of(frame))
        self._guest.write(encode_frame(self._guest_number, frame.kind, frame.sub, frame.payload))
        if frame.kind == CLOSE:
            self._end()

    def accept(self, frame: Frame) -> None:
        """A frame of the guest. It is untrusted: what it sends beyond the credit must not pile up here."""
        if frame.kind == DATA:
            self._credit -= len(frame.payload)
        elif frame.kind == RESULT:
            self._result_size += len(frame.payload)
        if self._credit < 0 or self._result_size > MAX_MESSAGE:
            self._client.refuse(self._number, GuestError("the guest sent more than it was allowed to"))
            self.close()
            return
        self._client.writer.write(encode_frame(self._number, frame.kind, frame.sub, frame.payload))
        if frame.kind == RESULT and frame.sub != MORE:
            self._end()

    def lose(self, error: GuestError) -> None:
        self._client.refuse(self._number, error)
        self._end()

    def close(self) -> None:
        self._guest.write(encode_frame(self._guest_number, CLOSE))
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
        self._message = bytearray()
        self._stream = LocalStream(number, client.writer.write, client.writer.drain)

    def to_answerer(self, frame: Frame) -> None:
        if frame.kind == OPEN and self.task is None:
            self._message += frame.payload
            if len(self._message) > MAX_MESSAGE:
                self._stream.fail(GuestError("request too long"))
                self.close()
            elif frame.sub != MORE:
                self.task = asyncio.create_task(self._answer())
        elif frame.kind == CLOSE:
            self.close()
        elif frame.kind != RESULT:
            self._stream.accept(frame)

    def close(self) -> None:
        self._client.streams.pop(self._number, None)
        if self.task:
            self.task.cancel()

    async def _answer(self) -> None:
        try:
            request = decode_object(bytes(self._message).partition(b"\n")[2])
            self._stream.answer(await self._handler(request, self._stream))
        except VmmError as error:
            self._stream.fail(GuestError(error.brief, error.details, error.hint))
        except Exception as error:  # whatever is wrong with one request, the supervisor lives on
            self._stream.fail(GuestError(f"the supervisor failed: {error}", type(error).__name__))
        finally:
            self._client.streams.pop(self._number, None)
