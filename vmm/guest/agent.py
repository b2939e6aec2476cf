# pathlib costs on each exec, and under emulation that is felt:
# ruff: noqa: PTH102, PTH103, PTH105, PTH108, PTH110, PTH112, PTH118, PTH120, PTH123, PTH208
"""The guest's end of the channel, and the wire format that both ends share.

One file, standard library only: it is copied into the guest image and is already running inside a memory snapshot.
After a restore it simply finds itself talking to a new host. The host imports the first part (the wire) from here, so
that the format is written once; that is why imports which only the guest needs stand inside the functions.

Wire: frames of an 18-byte header (magic, payload length, stream, kind, sub-channel, CRC of the header) and a payload of
at most 64 KiB. Each new host starts with `FLUSH` (a frame's worth of zeros: it completes whatever half frame its
predecessor left in the pipe) and a HELLO with a random nonce; it then throws away everything up to the HELLO_OK that
repeats the nonce. A HELLO with a new nonce ends all that the previous host had started.

A conversation: OPEN (`op`, newline, JSON) -> any number of DATA, EOF, CREDIT, CONTROL -> exactly one RESULT. DATA is
sent only against credit: each end of a stream may have WINDOW bytes on their way, and gets more by CREDIT as they are
consumed.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import threading
    from concurrent.futures import Future
    from http.client import HTTPConnection, HTTPResponse
    from subprocess import Popen

VERSION = "1"
PROTOCOL = 1

# --- the wire --------------------------------------------------------------------------------------------------------

MAGIC = b"\xf5SBX"
MAX_PAYLOAD = 1 << 16
MAX_MESSAGE = 8 << 20  # an OPEN's or RESULT's JSON, over all its frames
WINDOW = 1 << 18  # bytes on their way per stream and direction
NONCE_SIZE = 16

HELLO, HELLO_OK, RESTARTED, OPEN, DATA, EOF, CREDIT, CONTROL, RESULT, CLOSE = range(1, 11)
STDIN, STDOUT, STDERR = 0, 1, 2
MORE = 1  # sub-channel of an OPEN or RESULT whose JSON goes on in the next frame

_HEAD = struct.Struct(">4sIIBB")
_U32 = struct.Struct(">I")
HEADER_SIZE = _HEAD.size + _U32.size
FLUSH = bytes(HEADER_SIZE + MAX_PAYLOAD)


class Frame(NamedTuple):
    """One unit of the wire; stream 0 is the connection itself."""

    stream: int
    kind: int
    sub: int = 0
    payload: bytes = b""


def encode_frame(stream: int, kind: int, sub: int = 0, payload: bytes = b"") -> bytes:
    """The bytes of one frame; ValueError when the payload is above MAX_PAYLOAD."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"payload of {len(payload)} bytes")
    head = _HEAD.pack(MAGIC, len(payload), stream, kind, sub)
    return b"".join((head, _U32.pack(zlib.crc32(head)), payload))


def encode_message(stream: int, kind: int, message: bytes) -> bytes:
    """The frames of an OPEN or RESULT, cut where the message is longer than one payload."""
    cuts = range(0, max(len(message), 1), MAX_PAYLOAD)
    last = cuts[-1]
    return b"".join(
        encode_frame(stream, kind, 0 if at == last else MORE, message[at : at + MAX_PAYLOAD]) for at in cuts
    )


def encode_credit(stream: int, size: int) -> bytes:
    return encode_frame(stream, CREDIT, 0, _U32.pack(size))


def credit_of(frame: Frame) -> int:
    """The bytes that a CREDIT frame grants; 0 for a malformed one."""
    return int(_U32.unpack(frame.payload)[0]) if len(frame.payload) == _U32.size else 0


def encode_request(op: str, request: dict[str, Any]) -> bytes:
    """An OPEN's message. The name comes first so that a relay need not decode the rest; ValueError when too long."""
    message = op.encode() + b"\n" + json.dumps(request).encode()
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"request of {len(message)} bytes; at most {MAX_MESSAGE} are possible")
    return message


def decode_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; ValueError for anything else, however nested: the peer is not trusted."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


class Decoder:
    """Bytes in, frames out, whatever the cuts. Garbage before a valid header is skipped and counted in `skipped`."""

    def __init__(self) -> None:
        self.skipped = 0
        self._buffer = bytearray()
        self._nonce = b""

    def expect(self, nonce: bytes) -> None:
        """Throw away everything until a HELLO_OK with this nonce: what came before was meant for another host."""
        self._nonce = nonce

    def feed(self, data: bytes) -> list[Frame]:
        buffer = self._buffer
        buffer += data
        if self._nonce and not self._synchronise():
            return []
        frames: list[Frame] = []
        at = 0
        while len(buffer) - at >= HEADER_SIZE:
            head = self._head(at)
            if head is None:
                found = buffer.find(MAGIC, at + 1)
                found = found if found >= 0 else max(at + 1, len(buffer) - len(MAGIC) + 1)
                self.skipped += found - at
                at = found
                continue
            length, stream, kind, sub = head
            end = at + HEADER_SIZE + length
            if end > len(buffer):
                break
            frames.append(Frame(stream, kind, sub, bytes(buffer[at + HEADER_SIZE : end])))
            at = end
        del buffer[:at]
        return frames

    def _head(self, at: int) -> tuple[int, int, int, int] | None:
        buffer = self._buffer
        if not buffer.startswith(MAGIC, at):
            return None
        _, length, stream, kind, sub = _HEAD.unpack_from(buffer, at)
        crc = zlib.crc32(buffer[at : at + _HEAD.size])
        if length > MAX_PAYLOAD or _U32.unpack_from(buffer, at + _HEAD.size)[0] != crc:
            return None
        return length, stream, kind, sub

    def _synchronise(self) -> bool:
        buffer = self._buffer
        while (found := buffer.find(self._nonce)) >= 0:
            head = self._head(found - HEADER_SIZE) if found >= HEADER_SIZE else None
            if head and head[2] == HELLO_OK:
                del buffer[: found - HEADER_SIZE]
                self._nonce = b""
                self.skipped = 0
                return True
            del buffer[: found + 1]
        del buffer[: max(0, len(buffer) - HEADER_SIZE - NONCE_SIZE)]
        return False


# --- the guest -------------------------------------------------------------------------------------------------------

MAX_STREAMS = 256
CONGESTED = 1 << 18  # bytes queued for the port above which no child's output is read
GRACE_S = 0.1  # how long an exec whose main process ended waits for output that a child still holds open
KILL_AFTER_S = 3.0  # between TERM and KILL
REAP_EVERY_S = 0.1
DOCKER_SOCKET = "/var/run/docker.sock"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NETLINK_KOBJECT_UEVENT = 15
RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207
Json = dict[str, Any]


class Failure(Exception):
    """An operation that did not work; goes to the host as brief, details, hint."""

    def __init__(self, brief: str, details: str = "", hint: str = "") -> None:
        super().__init__(brief)
        self.brief, self.details, self.hint = brief, details, hint


class SpawnFailure(Exception):
    """A command that could not be started, with the code and message a shell would give."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Agent:
    """One loop over the port, the children and the results of worker threads."""

    def __init__(self, fd: int, *, is_port: bool) -> None:
        import select
        from concurrent.futures import ThreadPoolExecutor

        self.fd = fd
        self.is_port = is_port
        self.streams: dict[int, Exec | Task] = {}
        self.starting: set[Exec] = set()
        self.dying: list[Exec] = []
        self.out = bytearray()
        self._decoder = Decoder()
        self._epoch: bytes | None = None
        self._opening: dict[int, bytearray] = {}
        self._posted: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        self._reaping = False
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
        self.send(0, RESTARTED)  # a host that was talking to a predecessor of this process must not wait for it
        while True:
            self._flush()
            if self._stopping and not self.dying and not self.starting:
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
        import select

        if fd not in self._output_handlers:
            self._output_handlers[fd] = handler
            self._outputs.register(fd, select.EPOLLIN)

    def unwatch_output(self, fd: int) -> None:
        if self._output_handlers.pop(fd, None):
            self._outputs.unregister(fd)

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        from heapq import heappush

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
        from heapq import heappop

        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            action = heappop(self._timers)[2]
            self._guard(lambda _, action=action: action(), 0)  # type: ignore[misc]

    def _guard(self, handler: Callable[[int], None], events: int) -> None:
        try:
            handler(events)
        except Exception as error:  # a bug in one stream must not end the others
            import traceback

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
            import select

            self._congested = congested
            self._poll.modify(self._outputs.fileno(), 0 if congested else select.EPOLLIN)
        self._listen(connected=None)

    def _listen(self, connected: bool | None) -> None:
        """Ask for the port's events. Without a host the port is always 'hung up': then only changes wake the loop."""
        import select

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
        message = self._opening.setdefault(frame.stream, bytearray())
        message += frame.payload
        if frame.sub == MORE and len(message) <= MAX_MESSAGE and len(self._opening) <= MAX_STREAMS:
            return
        del self._opening[frame.stream]
        op, _, body = bytes(message).partition(b"\n")
        try:
            if frame.stream in self.streams:
                return
            if frame.sub == MORE:
                raise Failure("request too long")
            if len(self.streams) >= MAX_STREAMS:
                raise Failure(
                    f"too many operations at once in this machine (limit {MAX_STREAMS})", hint="wait for some to end"
                )
            request = decode_object(body)
            name = op.decode(errors="replace")
            if name == "exec":
                self.streams[frame.stream] = Exec(self, frame.stream, request)
            elif operation := OPERATIONS.get(name):
                self.streams[frame.stream] = Task(self, frame.stream, name, operation, request)
            else:
                raise Failure(f"the guest's agent knows no operation {name!r}", f"agent version {VERSION}")
        except (Failure, ValueError) as error:
            self.send_result(frame.stream, error_of(error))

    # ends

    def bury(self, process: Exec) -> None:
        """Take over a process to be ended: TERM to its whole session, later KILL, and only then let go of its pid."""
        self.dying.append(process)
        if not self._reaping:
            self._reaping = True
            self.call_later(0, self._reap)

    def _reap(self) -> None:
        sessions = scan_sessions()
        left = []
        now = time.monotonic()
        for process in self.dying:
            groups = sessions.get(process.pid, set())
            if not groups and process.reap():
                continue
            if groups and (process.kill_at is None or now >= process.kill_at):
                kill = process.kill_at is not None
                process.kill_at = now + KILL_AFTER_S
                signal_groups(groups, kill=kill)
            left.append(process)
        self.dying = left
        self._reaping = bool(left)
        if left:
            self.call_later(REAP_EVERY_S, self._reap)


class Task:
    """A one-shot operation in a worker thread."""

    def __init__(
        self,
        agent: Agent,
        stream: int,
        name: str,
        operation: Callable[[Json, threading.Event], Json],
        request: Json,
    ) -> None:
        import threading

        self.silent = False
        self._agent, self._stream, self._name = agent, stream, name
        self._cancelled = threading.Event()
        agent.submit(lambda: operation(request, self._cancelled), self._done)

    def accept(self, frame: Frame) -> None:
        if frame.kind == CLOSE:
            self.close()

    def close(self) -> None:
        self._cancelled.set()

    def _done(self, future: Future[Json]) -> None:
        error = future.exception()
        if self.silent:
            return
        del self._agent.streams[self._stream]
        if error is None:
            self._agent.send_result(self._stream, {"ok": future.result()})
        else:
            self._agent.send_result(self._stream, error_of(error, self._name))


class Exec:
    """One command of the host: its process, its pipes or terminal, and its credit."""

    def __init__(self, agent: Agent, stream: int, request: Json) -> None:
        self.silent = False
        self.pid = 0
        self.kill_at: float | None = None
        self._agent, self._stream = agent, stream
        self._child: Child | None = None
        self._closed = False
        self._window = WINDOW
        self._input = bytearray()
        self._input_eof = False
        self._input_watched = False
        self._consumed = 0
        self._exit: int | None = None
        self._owed: dict[int, int] = {}
        self._grace_over = False
        self._resize: tuple[int, int] | None = None
        self._signals: list[int] = []
        agent.starting.add(self)
        agent.submit(lambda: spawn(request), self._spawned)

    def accept(self, frame: Frame) -> None:
        if frame.kind == DATA:
            self._input += frame.payload
            if len(self._input) > WINDOW:
                self._fail(Failure("more input than the window allows"))
            elif self._child:
                self._write()
        elif frame.kind == EOF:
            self._input_eof = True
            if self._child:
                self._write()
        elif frame.kind == CREDIT:
            self._window = min(WINDOW, self._window + credit_of(frame))
            self._read_on()
        elif frame.kind == CONTROL:
            self._control(decode_object(frame.payload))
        elif frame.kind == CLOSE:
            self.close()

    def close(self) -> None:
        """The host wants no more of it: end the process group; the result tells when it is gone."""
        if not self._closed:
            self._closed = True
            if self._child:
                self._end()  # else _spawned sees to it

    def _end(self) -> None:
        self._release()
        if self._exit is None:
            self._agent.bury(self)
        else:
            self._result(exit_of(self._exit))

    def reap(self) -> bool:
        """Called when no live process is in the closed command's session; False when its leader is not there yet."""
        assert self._child
        code = self._child.process.poll()
        if code is None:
            self._child.process.kill()
            return False
        self._result(exit_of(code))
        return True

    def _spawned(self, future: Future[Child]) -> None:
        self._agent.starting.discard(self)
        error = future.exception()
        if isinstance(error, SpawnFailure):
            if not self._closed:
                self._agent.send(self._stream, DATA, STDERR, f"{error}\n".encode(errors="replace")[:4096])
            self._result({"ok": {"code": error.code, "signal": None}})
            return
        if error is not None:
            self._result(error_of(error, "exec"))
            return
        import select

        self._child = child = future.result()
        self.pid = child.process.pid
        if self._closed:
            self._end()
            return
        self._agent.watch(child.pidfd, select.EPOLLIN, self._exited)
        self._read_on()
        self._write()
        if self._resize:
            set_size(child.stdin, *self._resize)
        for number in self._signals:
            self._kill(number)

    def _control(self, request: Json) -> None:
        if "resize" in request:
            rows, cols = (int(n) for n in request["resize"])
            self._resize = rows, cols
            if self._child and self._child.is_tty and self._child.stdin >= 0:
                set_size(self._child.stdin, rows, cols)
        if "signal" in request:
            number = int(request["signal"])
            if self._child:
                self._kill(number)
            else:
                self._signals.append(number)

    def _kill(self, number: int) -> None:
        if self._exit is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    # towards the process

    def _write(self, events: int = 0) -> None:
        child = self._child
        assert child
        stdin = child.stdin
        try:
            while self._input and stdin >= 0:
                with memoryview(self._input) as view:
                    count = os.write(stdin, view[:MAX_PAYLOAD])
                del self._input[:count]
                self._consumed += count
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it any more: swallow the rest, so that the sender does not wait for credit
            self._close_input()
        if child.stdin < 0:
            self._consumed += len(self._input)
            self._input.clear()
        if self._consumed >= WINDOW // 4 or (self._consumed and not self._input):
            self._agent.send_credit(self._stream, self._consumed)
            self._consumed = 0
        if not self._input and self._input_eof and child.stdin >= 0:
            if child.is_tty:
                self._input_eof = False
                self._input += b"\x04"
                self._consumed -= 1
                self._write()
            else:
                self._close_input()
        self._watch_input(bool(self._input) and child.stdin >= 0)

    def _watch_input(self, wanted: bool) -> None:
        import select

        assert self._child
        if wanted and not self._input_watched:
            self._agent.watch(self._child.stdin, select.EPOLLOUT, self._write)
        elif self._input_watched and not wanted:
            self._agent.unwatch(self._child.stdin)
        self._input_watched = wanted

    def _close_input(self) -> None:
        child = self._child
        assert child
        self._watch_input(False)
        if child.stdin >= 0 and not child.is_tty:
            os.close(child.stdin)
        child.stdin = -1

    # from the process

    def _read_on(self) -> None:
        if self._child and self._window:
            for fd in self._child.outputs:
                self._agent.watch_output(fd, lambda _, fd=fd: self._read(fd))  # type: ignore[misc]

    def _read(self, fd: int) -> None:
        child = self._child
        assert child
        if not self._window:
            self._agent.unwatch_output(fd)
            return
        try:
            data = os.read(fd, min(MAX_PAYLOAD, self._window))
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process let go of the terminal
            data = b""
        if data:
            self._window -= len(data)
            self._agent.send(self._stream, DATA, child.outputs[fd], data)
            if self._exit is not None:
                self._owed[fd] = self._owed.get(fd, 0) - len(data)
        else:
            self._drop_output(fd)
        self._finish_if_done()

    def _drop_output(self, fd: int) -> None:
        assert self._child
        self._agent.unwatch_output(fd)
        if fd == self._child.stdin:  # a terminal's master is both
            self._close_input()
        del self._child.outputs[fd]
        os.close(fd)

    def _exited(self, events: int) -> None:
        child = self._child
        assert child
        if child.process.poll() is None:
            return  # an event of an earlier descriptor with this number
        self._agent.unwatch(child.pidfd)
        self._exit = child.process.returncode
        # What is in the pipes now is owed; a background child that holds them open gets a short grace and no more.
        self._owed = {fd: unread(fd) for fd in child.outputs}
        self._agent.call_later(GRACE_S, self._end_grace)
        self._finish_if_done()

    def _end_grace(self) -> None:
        self._grace_over = True
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._exit is None or self._closed:
            return
        assert self._child
        if self._child.outputs and (not self._grace_over or any(owed > 0 for owed in self._owed.values())):
            return
        self._closed = True
        self._release()
        self._result(exit_of(self._exit))

    def _fail(self, failure: Failure) -> None:
        if not self._closed:
            self._result(error_of(failure))
            self.silent = True
            self.close()

    def _release(self) -> None:
        child = self._child
        assert child
        self._input.clear()
        for fd in list(child.outputs):
            self._drop_output(fd)
        self._close_input()
        if child.pidfd >= 0:
            self._agent.unwatch(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = -1

    def _result(self, result: Json) -> None:
        if not self.silent:
            self.silent = True
            del self._agent.streams[self._stream]
            self._agent.send_result(self._stream, result)


class Child:
    """A started process and the descriptors to talk to it; with a terminal, stdin and the one output are its master."""

    def __init__(self, process: Popen[bytes], stdin: int, outputs: dict[int, int], *, is_tty: bool) -> None:
        self.process, self.stdin, self.outputs, self.is_tty = process, stdin, outputs, is_tty
        self.pidfd = os.pidfd_open(process.pid)


def spawn(request: Json) -> Child:
    """Start the command as a session of its own. Runs in a worker thread: the file system may block it for ever."""
    import shutil
    import subprocess

    argv = [str(word) for word in request["argv"]]
    if not argv:
        raise Failure("no command given")
    account, groups = find_account(request.get("user"))
    environment = login_environment(account) | {str(k): str(v) for k, v in (request.get("env") or {}).items()}
    cwd = request.get("cwd") or (account.pw_dir if os.path.isdir(account.pw_dir) else "/")
    if not os.path.isdir(cwd):  # also asked before vfork, which would hold up all threads on a dead mount
        raise SpawnFailure(126, f"cannot enter {cwd}: no such directory")
    tty = bool(request.get("tty"))
    program = shutil.which(argv[0], path=environment.get("PATH", DEFAULT_PATH)) if "/" not in argv[0] else argv[0]
    if program is None or (tty and not os.path.exists(os.path.join(cwd, program))):
        raise SpawnFailure(127, f"{argv[0]}: command not found")
    options: dict[str, Any] = {}
    if os.geteuid() == 0 and account.pw_uid != 0:
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
    stdin_child, stdin_ours = subprocess.DEVNULL, -1
    theirs: list[int] = []
    outputs: dict[int, int] = {}
    try:
        if tty:
            master, slave = os.openpty()
            stdin_child, stdin_ours = slave, master
            outputs[master] = STDOUT
            theirs = [slave]
            stdout_child = stderr_child = slave
            set_size(master, int(request.get("rows") or 24), int(request.get("cols") or 80))
            if options:
                os.fchown(slave, account.pw_uid, -1)  # as login does: some programs open their terminal by name
            environment.setdefault("TERM", "xterm-256color")
            argv = ["setsid", "--ctty", *argv]  # takes the terminal; it execs, so the pid stays the same
        else:
            if request.get("stdin"):
                stdin_child, stdin_ours = os.pipe()
                theirs.append(stdin_child)
            stdout_ours, stdout_child = os.pipe()
            outputs[stdout_ours] = STDOUT
            theirs.append(stdout_child)
            stderr_ours, stderr_child = os.pipe()
            outputs[stderr_ours] = STDERR
            theirs.append(stderr_child)
        process = subprocess.Popen(
            argv,
            stdin=stdin_child,
            stdout=stdout_child,
            stderr=stderr_child,
            env=environment,
            cwd=cwd,
            start_new_session=not tty,
            **options,
        )
    except OSError as error:
        for fd in {*outputs, stdin_ours} - {-1}:
            os.close(fd)
        if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError) or error.errno in EXEC_ERRNOS:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            raise SpawnFailure(code, f"{argv[0]}: {error.strerror}") from None
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    for fd in {*outputs, stdin_ours} - {-1}:
        os.set_blocking(fd, False)
    try:  # the agent itself is spared by the OOM killer; what it starts must not be
        with open(f"/proc/{process.pid}/oom_score_adj", "w") as file:
            file.write("0")
    except OSError:
        pass  # already gone, or we are not root
    return Child(process, stdin_ours, outputs, is_tty=tty)


EXEC_ERRNOS = (7, 8, 13, 22, 26, 40)  # E2BIG, ENOEXEC, EACCES, EINVAL, ETXTBSY, ELOOP


def find_account(user: object) -> tuple[Any, list[int]]:
    """The passwd entry and supplementary groups of a name or uid; without one, of whoever runs the agent."""
    import pwd

    try:
        if user is None or user == "":
            account = pwd.getpwuid(os.geteuid())
        elif isinstance(user, int) or str(user).isdecimal():
            account = pwd.getpwuid(int(str(user)))
        else:
            account = pwd.getpwnam(str(user))
    except KeyError:
        if user is None or user == "":
            return pwd.struct_passwd((str(os.geteuid()), "x", os.geteuid(), os.getegid(), "", "/", "/bin/sh")), []
        raise Failure(f"no user {user!r} in this machine") from None
    if os.geteuid() != 0 and account.pw_uid != os.geteuid():
        raise Failure(f"cannot become {account.pw_name}: the agent does not run as root")
    return account, os.getgrouplist(account.pw_name, account.pw_gid)


def login_environment(account: Any, file: str = "/etc/environment") -> dict[str, str]:
    environment = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
        "PATH": DEFAULT_PATH,
        "LANG": "C.UTF-8",
    }
    if account.pw_uid != 0:  # as a login shell has it: there `pip install --user` and agents put their programs
        environment["PATH"] = f"{account.pw_dir}/.local/bin:{DEFAULT_PATH}"
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            environment |= parse_environment(lines.read())
    except OSError:
        pass
    return environment


def parse_environment(text: str) -> dict[str, str]:
    """The variables of an /etc/environment, read as pam_env does: no expansion, one pair of quotes taken off."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or name.startswith("#"):
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found


def scan_sessions() -> dict[int, set[int]]:
    """Session -> process groups with at least one live (not zombie) member."""
    sessions: dict[int, set[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, _, group, session = file.read().rpartition(b")")[2].split()[:4]
            except (OSError, ValueError):
                continue
            if state not in b"ZX":
                sessions.setdefault(int(session), set()).add(int(group))
    return sessions


def signal_groups(groups: set[int], *, kill: bool) -> None:
    import signal

    for group in groups:
        for number in (signal.SIGKILL,) if kill else (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)


def exit_of(code: int) -> Json:
    return {"ok": {"code": code if code >= 0 else 128 - code, "signal": -code if code < 0 else None}}


def error_of(error: BaseException, op: str = "") -> Json:
    if isinstance(error, Failure):
        return {"error": {"brief": error.brief, "details": error.details, "hint": error.hint}}
    brief = f"{op or 'request'} failed in the guest: {error}"
    return {"error": {"brief": brief, "details": type(error).__name__, "hint": ""}}


def set_size(fd: int, rows: int, cols: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, cols & 0xFFFF, 0, 0))


def unread(fd: int) -> int:
    """How many bytes are in the pipe or terminal now."""
    import fcntl
    import termios

    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])


def read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def describe() -> Json:
    uname = os.uname()
    return {
        "version": VERSION,
        "protocol": PROTOCOL,
        "boot_id": read_text("/proc/sys/kernel/random/boot_id"),
        "kernel": uname.release,
        "hostname": uname.nodename,
    }


# --- operations ------------------------------------------------------------------------------------------------------
# Each runs in a thread: (request, cancelled) -> answer. `timeout_s` in the request is the host's deadline.


def ping(request: Json, cancelled: threading.Event) -> Json:
    return {"time_ns": time.time_ns(), **describe()}


def set_identity(request: Json, cancelled: threading.Event) -> Json:
    """Make a restored machine its own: entropy first, for all that follows, then clock, names, files, environment.

    {entropy: hex, time_ns, hostname, machine_id, files: [{path, content or base64, mode, owner}], environment: {}}; all
    optional. The environment is merged into /etc/environment, where each exec reads it."""
    import base64

    if entropy := bytes.fromhex(request.get("entropy") or ""):
        add_entropy(entropy)
    if time_ns := request.get("time_ns"):
        time.clock_settime_ns(time.CLOCK_REALTIME, int(time_ns))
    if hostname := request.get("hostname"):
        import socket

        socket.sethostname(hostname)
        write_file("/etc/hostname", hostname.encode() + b"\n", 0o644)
    if machine_id := request.get("machine_id"):
        write_file("/etc/machine-id", machine_id.encode() + b"\n", 0o444)
    for file in request.get("files") or []:
        content = base64.b64decode(file["base64"]) if "base64" in file else str(file.get("content", "")).encode()
        mode = file.get("mode", 0o644)
        write_file(file["path"], content, int(mode, 8) if isinstance(mode, str) else int(mode), file.get("owner"))
    if variables := request.get("environment"):
        lines = [f"{name}={value}" for name, value in variables.items()]
        path = request.get("environment_file") or "/etc/environment"
        write_file(path, merge_environment(read_text(path), lines).encode(errors="surrogateescape"), 0o644)
    return {"time_ns": time.time_ns()}


def add_entropy(entropy: bytes) -> None:
    """Mix in and credit; without the privilege for that, mix in only."""
    import fcntl

    with open("/dev/random", "wb", buffering=0) as random:
        try:
            fcntl.ioctl(random, RNDADDENTROPY, struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy)
            fcntl.ioctl(random, RNDRESEEDCRNG)
        except OSError:
            random.write(entropy)


def merge_environment(text: str, lines: list[str]) -> str:
    """`text` with the `lines` (NAME=value) put in the place of lines of the same name, or at the end."""
    names = {line.partition("=")[0] for line in lines}
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in names]
    return "".join(f"{line}\n" for line in [*kept, *lines])


def write_file(path: str, content: bytes, mode: int, owner: str | int | None = None) -> None:
    """Replace the file as a whole; a reader sees the old or the new one. Missing parents are made, owned alike."""
    import grp
    import pwd

    uid = gid = -1
    if owner is not None:
        user, _, group = str(owner).partition(":")
        account = pwd.getpwuid(int(user)) if user.isdecimal() and not group else None
        if user.isdecimal() and group:
            uid = int(user)
        else:
            account = account or pwd.getpwnam(user)
            uid, gid = account.pw_uid, account.pw_gid
        if group:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    parent = os.path.dirname(path) or "."
    missing = []
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for directory in reversed(missing):
        os.mkdir(directory, 0o755)
        os.chown(directory, uid, gid)
    temporary = f"{path}.{os.getpid()}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def stat_path(request: Json, cancelled: threading.Event) -> Json:
    """What is at `path`: {kind: missing, file, directory, symlink or other; directory: whether it leads to one}."""
    import stat

    path = request["path"]
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "missing", "directory": False}
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
    return {"kind": kinds.get(stat.S_IFMT(mode), "other"), "directory": os.path.isdir(path)}


def libc_call(name: str, *arguments: Any) -> int:
    """0, or the errno."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), name)
    return ctypes.get_errno() if call(*arguments) else 0


def mount(request: Json, cancelled: threading.Event) -> Json:
    """Mount a virtiofs tag at `target`, which is made when missing. A hot-plugged tag may still be on its way: then try
    again at each kernel event about a device, until the deadline."""
    import ctypes
    import errno
    import socket

    tag, target, kind = request["tag"], request["target"], request.get("fstype") or "virtiofs"
    deadline = time.monotonic() + float(request.get("timeout_s") or 10)
    flags = ctypes.c_ulong(1 if request.get("ro") else 0)
    options = (request.get("options") or "").encode() or None
    os.makedirs(target, exist_ok=True)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as events:
        events.bind((0, 1))  # before the first try, so that no event falls in between
        while error := libc_call("mount", tag.encode(), target.encode(), kind.encode(), flags, options):
            left = deadline - time.monotonic()
            if error != errno.EINVAL or kind != "virtiofs" or left <= 0 or cancelled.is_set():
                hint = "the device did not appear in time" if error == errno.EINVAL and left <= 0 else ""
                raise Failure(f"cannot mount {tag} at {target}: {os.strerror(error)}", hint=hint)
            # The driver may bind a moment after its event; hence not only the next event, but also soon.
            events.settimeout(max(0.001, min(left, 0.05)))
            with contextlib.suppress(OSError):  # timed out, or events were lost: either way try again
                events.recv(65536)
    return {}


def unmount(request: Json, cancelled: threading.Event) -> Json:
    """Unmount `target`; with `lazy`, even when it is in use. Not mounted is fine."""
    import errno

    target = request["target"]
    error = libc_call("umount2", target.encode(), 2 if request.get("lazy") else 0)
    if error in (errno.EINVAL, errno.ENOENT):
        return {"mounted": False}
    if error:
        hint = "a process in the machine still uses it" if error == errno.EBUSY else ""
        raise Failure(f"cannot unmount {target}: {os.strerror(error)}", hint=hint)
    return {"mounted": True}


def connect_docker(request: Json, timeout_s: float) -> HTTPConnection:
    import http.client
    import socket

    connection = http.client.HTTPConnection("docker", timeout=timeout_s)
    connection.auto_open = 0
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(request.get("socket") or DOCKER_SOCKET)
    except OSError as error:
        connection.close()
        raise Failure(f"the machine's Docker does not answer: {error}") from None
    return connection


def call_docker(request: Json, cancelled: threading.Event) -> Json:
    """One request to the Docker API: {method, path, body} -> {status, body}; bodies are text."""
    connection = connect_docker(request, float(request.get("timeout_s") or 30))
    body = request.get("body")
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(request.get("method") or "GET", request["path"], body, headers)
        answer = connection.getresponse()
        text = answer.read(MAX_MESSAGE // 4).decode(errors="replace")
    finally:
        connection.close()
    return {"status": answer.status, "body": text}


def get_json(connection: HTTPConnection, path: str, filters: Json | None = None) -> Any:
    from urllib.parse import quote

    connection.request("GET", path + (f"filters={quote(json.dumps(filters))}" if filters else ""))
    answer = connection.getresponse()
    body = answer.read()
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise Failure(f"Docker answered {answer.status} to {path}", body.decode(errors="replace")[:2000])
    return json.loads(body)


def wait_health(request: Json, cancelled: threading.Event) -> Json:
    """Wait until each of `services` (of compose `project`) is running and, if it has a health check, healthy, or has
    ended with 0; return early when one failed. Answer: {ready, services: {name: {state, health, exit_code, log}}}."""
    deadline = time.monotonic() + float(request.get("timeout_s") or 60)
    labels = [f"com.docker.compose.project={request['project']}"] if request.get("project") else []
    events_filter = {"type": ["container"], "label": labels, "event": HEALTH_EVENTS}
    while True:
        left = deadline - time.monotonic()
        # Ask for events before looking, so that no change falls in between; look again at the latest after 2 s.
        with_events = connect_docker(request, max(0.05, min(left, 2.0)))
        try:
            events = open_events(with_events, events_filter)
            while True:
                services = look_at_services(request, labels)
                states = [judge(services[name]) for name in request["services"]]
                if all(states) or False in states or cancelled.is_set() or time.monotonic() >= deadline:
                    return {"ready": all(states), "failed": False in states, "services": services}
                try:
                    if not events.readline():
                        break
                except OSError:  # no event within the socket's time-out
                    break
        finally:
            with_events.close()


HEALTH_EVENTS = ["create", "start", "die", "oom", "destroy", "health_status", "restart"]


def open_events(connection: HTTPConnection, filters: Json) -> HTTPResponse:
    from urllib.parse import quote

    connection.request("GET", f"/events?filters={quote(json.dumps(filters))}")
    return connection.getresponse()


def look_at_services(request: Json, labels: list[str]) -> dict[str, Json]:
    missing = {"state": "missing", "health": None, "exit_code": None, "log": "", "container": None}
    services = {name: dict(missing) for name in request["services"]}
    connection = connect_docker(request, 10)
    try:
        for container in get_json(connection, "/containers/json?all=1&", {"label": labels}) or []:
            name = container.get("Labels", {}).get("com.docker.compose.service")
            if name not in services:
                continue
            details = get_json(connection, f"/containers/{container['Id']}/json")
            if details is None:
                continue  # removed just now
            state = details["State"]
            health = state.get("Health") or {}
            log = (health.get("Log") or [{}])[-1]
            services[name] = {
                "state": state["Status"],
                "health": health.get("Status") if health.get("Status") != "none" else None,
                "exit_code": state.get("ExitCode"),
                "log": str(log.get("Output", ""))[-2000:] or str(state.get("Error", "")),
                "container": details.get("Name", "").lstrip("/"),
            }
    finally:
        connection.close()
    return services


def judge(service: Json) -> bool | None:
    """True: ready. False: failed. None: wait."""
    state, health = service["state"], service["health"]
    if state == "running":
        return True if health in (None, "healthy") else False if health == "unhealthy" else None
    if state == "exited":
        return bool(service["exit_code"] == 0)
    return False if state == "dead" else None


def wait_unit(request: Json, cancelled: threading.Event) -> Json:
    """Wait until a systemd unit is active. `start` joins a start under way and waits for it, without polling."""
    import subprocess

    unit = request["unit"]
    try:
        timeout_s = float(request.get("timeout_s") or 60)
        done = subprocess.run(["systemctl", "start", "--", unit], capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Failure(f"{unit} did not become active within {timeout_s:g} s", unit_status(unit)) from None
    if done.returncode:
        raise Failure(f"{unit} failed", done.stderr.decode(errors="replace") + unit_status(unit))
    return {}


def unit_status(unit: str) -> str:
    import subprocess

    argv = ["systemctl", "status", "--no-pager", "--full", "-n", "20", "--", unit]
    return subprocess.run(argv, capture_output=True, timeout=10).stdout.decode(errors="replace")


def trim(request: Json, cancelled: threading.Event) -> Json:
    """Give back what a snapshot should not carry: caches, and the free blocks of `paths`. Answers meminfo, in KiB."""
    import subprocess

    notes = []
    os.sync()
    for path in request.get("paths") or ["/"]:
        done = subprocess.run(["fstrim", path], capture_output=True, timeout=float(request.get("timeout_s") or 60))
        if done.returncode:
            notes.append(done.stderr.decode(errors="replace").strip())
    for knob, value in (("drop_caches", "3"), ("compact_memory", "1")):
        try:
            with open(f"/proc/sys/vm/{knob}", "w") as file:
                file.write(value)
        except OSError as error:
            notes.append(f"{knob}: {error.strerror}")
    lines = [line.split() for line in read_text("/proc/meminfo").splitlines()]
    return {"meminfo": {words[0].rstrip(":"): int(words[1]) for words in lines}, "notes": notes}


def power_off(request: Json, cancelled: threading.Event) -> Json:
    """Shut the machine down; with `force`, at once, and then this is never answered."""
    import subprocess

    os.sync()
    if request.get("force"):
        libc_call("reboot", 0x4321FEDC)
    subprocess.run(["systemctl", "poweroff", "--no-block"], check=True, capture_output=True, timeout=30)
    return {}


OPERATIONS: dict[str, Callable[[Json, threading.Event], Json]] = {
    "ping": ping,
    "identity": set_identity,
    "stat": stat_path,
    "mount": mount,
    "umount": unmount,
    "docker": call_docker,
    "health": wait_health,
    "wait_unit": wait_unit,
    "trim": trim,
    "power_off": power_off,
}


def notify_ready() -> None:
    """Tell systemd that the port is open and read."""
    import socket

    if path := os.environ.pop("NOTIFY_SOCKET", ""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)


def main() -> int:
    import argparse

    parser = argparse.ArgumentParser(description="the sandbox guest's agent")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", help="a virtio-serial port, such as /dev/virtio-ports/org.sandbox.agent")
    where.add_argument("--fd", type=int, help="an inherited socket")
    options = parser.parse_args()
    # All of it now, so that a snapshot holds it warm.
    import base64, ctypes, fcntl, grp, heapq, http.client, pwd, shutil, signal, socket  # noqa: E401, F401, I001
    import stat, subprocess, termios, urllib.parse  # noqa: E401, F401

    pwd.getpwuid(0)
    os.environ.setdefault("PATH", DEFAULT_PATH)
    if options.port:
        fd = os.open(options.port, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    else:
        fd = options.fd
        os.set_inheritable(fd, False)
    agent = Agent(fd, is_port=options.port is not None)
    notify_ready()
    agent.run()
    sys.stderr.flush()
    os._exit(0)  # a worker that is stuck in a dead mount must not hold us


if __name__ == "__main__":
    main()
