"""The loop over the port, the children and the results of worker threads."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from heapq import heappop, heappush
from typing import Any

from .burial import Burial
from .command import Exec, Process
from .connection import Connection
from .failure import Failure, Json, error_of
from .operations import OPERATIONS
from .sessions import Sessions
from .system import describe
from .viewer import Viewer
from .wire import (
    CLOSE,
    FLUSH,
    HELLO,
    HELLO_OK,
    MAX_CONNECTIONS,
    MAX_MESSAGE,
    MAX_PAYLOAD,
    NONCE_SIZE,
    OPEN,
    RESTARTED,
    RESULT,
    VERSION,
    Assembly,
    Decoder,
    Frame,
    decode_object,
    encode_credit,
    encode_frame,
    encode_message,
)

MAX_STREAMS = 256
CONGESTED = 1 << 18  # bytes queued for the port above which no child's output is read


class Loop:
    """One loop over the port, the children and the results of worker threads."""

    def __init__(self, fd: int, *, is_port: bool) -> None:
        self.fd = fd
        self.is_port = is_port
        self.streams: dict[int, Exec | Task | Connection | Viewer] = {}
        self.starting: set[Process] = set()
        self._sessions = Sessions(self)
        self._burial = Burial(self.call_later)
        self.out = bytearray()
        self._decoder = Decoder()
        self._epoch: bytes | None = None
        self._opening: dict[int, Assembly] = {}
        self._posted: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        self._stopping = False
        self._pool = ThreadPoolExecutor(MAX_STREAMS, "work")
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        # Children's output has an epoll of its own, so that a full port stops all of it by one call.
        self._outputs = select.epoll()
        self._output_handlers: dict[int, Callable[[int], None]] = {}
        self._congested = False
        self._port_events = select.EPOLLIN
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(fd, False)
        self.watch(self._wake_read, select.EPOLLIN, self._woken)
        self.watch(self._outputs.fileno(), select.EPOLLIN, self._read_outputs)
        self.watch(fd, self._port_events, self._port_ready)

    # loop

    def run(self) -> None:
        """Serve until the peer is gone for good (never, on a port); what it had started is then ended."""
        # A host that was talking to a predecessor of this process must not wait for it, nor for the rest of a frame.
        self.out += FLUSH
        self.send(0, RESTARTED)
        while True:
            self._flush()
            if self._stopping and not self._burial.dying and not self.starting:
                return
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1
            for fd, events in self._poll.poll(timeout):
                handler = self._handlers.get(fd)
                if handler:
                    self._guard(handler, events)
            self._run_timers()

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None):
            self._poll.unregister(fd)

    def watch_output(self, fd: int, handler: Callable[[int], None]) -> None:
        if fd not in self._output_handlers:
            self._output_handlers[fd] = handler
            self._outputs.register(fd, select.EPOLLIN)

    def unwatch_output(self, fd: int) -> None:
        if self._output_handlers.pop(fd, None):
            self._outputs.unregister(fd)

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timer_count += 1
        heappush(self._timers, (time.monotonic() + delay_s, self._timer_count, action))

    def submit(self, work: Callable[[], Any], done: Callable[[Future[Any]], None]) -> None:
        """Run `work` in a thread, then `done` in the loop: a call that a dead mount blocks must not block the rest."""

        def finished(future: Future[Any]) -> None:
            self._posted.append(lambda: done(future))
            with contextlib.suppress(BlockingIOError):  # full: the loop wakes anyway
                os.write(self._wake_write, b"x")

        self._pool.submit(work).add_done_callback(finished)

    def _woken(self, events: int) -> None:
        os.read(self._wake_read, 4096)
        posted, self._posted = self._posted, []
        for action in posted:
            self._guard(lambda _, action=action: action(), 0)  # type: ignore[misc]

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            action = heappop(self._timers)[2]
            self._guard(lambda _, action=action: action(), 0)  # type: ignore[misc]

    def _guard(self, handler: Callable[[int], None], events: int) -> None:
        try:
            handler(events)
        except Exception as error:  # a bug in one stream must not end the others
            traceback.print_exception(error, file=sys.stderr)

    # port

    def send(self, stream: int, kind: int, sub: int = 0, payload: bytes = b"") -> None:
        self.out += encode_frame(stream, kind, sub, payload)

    def send_result(self, stream: int, result: Json) -> None:
        message = json.dumps(result).encode()
        if len(message) > MAX_MESSAGE:
            message = json.dumps({"error": {"brief": f"the answer is above {MAX_MESSAGE >> 20} MiB"}}).encode()
        self.out += encode_message(stream, RESULT, message)

    def send_credit(self, stream: int, size: int) -> None:
        self.out += encode_credit(stream, size)

    def _flush(self) -> None:
        try:
            while self.out:
                with memoryview(self.out) as view:
                    count = os.write(self.fd, view[:MAX_PAYLOAD])
                if not count:
                    break
                del self.out[:count]
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up()
        congested = len(self.out) > CONGESTED
        if congested != self._congested:
            self._congested = congested
            self._poll.modify(self._outputs.fileno(), 0 if congested else select.EPOLLIN)
        self._listen(connected=None)

    def _listen(self, connected: bool | None) -> None:
        """Ask for the port's events. Without a host the port is always 'hung up': then only changes wake the loop."""
        events = self._port_events
        if connected is not None or not events & select.EPOLLET:
            events = select.EPOLLIN | (select.EPOLLOUT if self.out else 0)
            if connected is False:
                events = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
        if events != self._port_events and self.fd in self._handlers:
            self._port_events = events
            self._poll.modify(self.fd, events)

    def _hang_up(self) -> None:
        if self.is_port:
            self._listen(connected=False)
        elif not self._stopping:
            self._stopping = True
            self.unwatch(self.fd)
            self.out.clear()
            self._reset()
            self._sessions.end_all()

    def _port_ready(self, events: int) -> None:
        try:
            data = os.read(self.fd, 4 * MAX_PAYLOAD)
        except BlockingIOError:
            self._listen(connected=True)
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        self._listen(connected=True)
        for frame in self._decoder.feed(data):
            self._guard(lambda _, frame=frame: self._accept(frame), 0)  # type: ignore[misc]

    def _read_outputs(self, events: int) -> None:
        for fd, ready in self._outputs.poll(0):
            handler = self._output_handlers.get(fd)
            if handler:
                self._guard(handler, ready)

    # frames

    def _accept(self, frame: Frame) -> None:
        if frame.kind == HELLO:
            self._hello(frame)
        elif self._epoch is None:
            return  # of a host before this process
        elif frame.kind == OPEN:
            self._open(frame)
        elif stream := self.streams.get(frame.stream):
            stream.accept(frame)

    def _hello(self, frame: Frame) -> None:
        nonce = frame.payload[:NONCE_SIZE]
        if nonce != self._epoch:
            self._reset()
            self.out.clear()  # the new host searches for its nonce, so half a frame does no harm
            self._epoch = nonce
        self.out += encode_frame(0, HELLO_OK, 0, nonce + json.dumps(describe()).encode())

    def _reset(self) -> None:
        self._opening.clear()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.silent = True
            stream.close()

    def _open(self, frame: Frame) -> None:
        try:
            message = self._assemble(frame)
            if message is None or frame.stream in self.streams:
                return
            op, _, body = message.partition(b"\n")
            request = decode_object(body)
            name = op.decode(errors="replace")
            self._start(frame.stream, name, request)
        except (Failure, ValueError) as error:
            self.send_result(frame.stream, error_of(error))

    def _start(self, stream: int, name: str, request: Json) -> None:
        connections = sum(isinstance(other, Connection) for other in self.streams.values())
        if name == "connect":
            if connections >= MAX_CONNECTIONS:
                raise too_many(MAX_CONNECTIONS)
            connection = self.streams[stream] = Connection(self, stream, request)
            connection.start()
        elif len(self.streams) - connections >= MAX_STREAMS:
            raise too_many(MAX_STREAMS)
        elif name == "exec":
            self.streams[stream] = Exec(self, stream, request)
        elif name == "session":
            self._sessions.join(stream, request)
        elif name == "sessions":
            self.send_result(stream, {"ok": self._sessions.describe()})
        elif operation := OPERATIONS.get(name):
            self.streams[stream] = Task(self, stream, name, operation, request)
        else:
            raise Failure(f"guestd knows no operation {name!r}", f"its version is {VERSION}")

    def _assemble(self, frame: Frame) -> bytes | None:
        assembly = self._opening.pop(frame.stream, None) or Assembly()
        message = assembly.add(frame)
        if message is None:
            if len(self._opening) >= MAX_STREAMS:
                raise too_many(MAX_STREAMS)
            self._opening[frame.stream] = assembly
        return message

    def bury(self, process: Process) -> None:
        """Take over a process to be ended, and all that is in its session."""
        self._burial.add(process)


def too_many(limit: int) -> Failure:
    return Failure(f"too many operations at once in this machine (limit {limit})", hint="wait for some to end")


class Task:
    """A one-shot operation in a worker thread."""

    def __init__(
        self,
        loop: Loop,
        stream: int,
        name: str,
        operation: Callable[[Json, threading.Event], Json],
        request: Json,
    ) -> None:

        self.silent = False
        self._loop, self._stream, self._name = loop, stream, name
        self._cancelled = threading.Event()
        loop.submit(lambda: operation(request, self._cancelled), self._done)

    def accept(self, frame: Frame) -> None:
        if frame.kind == CLOSE:
            self.close()

    def close(self) -> None:
        self._cancelled.set()

    def _done(self, future: Future[Json]) -> None:
        error = future.exception()
        if self.silent:
            return
        del self._loop.streams[self._stream]
        if error is None:
            self._loop.send_result(self._stream, {"ok": future.result()})
        else:
            self._loop.send_result(self._stream, error_of(error, self._name))
