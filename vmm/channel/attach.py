"""The body of `sandbox exec [-it]`: this process's streams, terminal and signals, joined to a command in the guest.

One loop over poll(2), without asyncio: importing that would take as long as everything else before the command runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import stat
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

from vmm.channel.errors import GuestError
from vmm.channel.greeting import read_hello
from vmm.guest.agent import (
    CLOSE,
    CONTROL,
    CREDIT,
    DATA,
    EOF,
    HELLO,
    HELLO_OK,
    MAX_MESSAGE,
    MAX_PAYLOAD,
    MORE,
    NONCE_SIZE,
    OPEN,
    RESTARTED,
    RESULT,
    WINDOW,
    Decoder,
    Frame,
    credit_of,
    decode_object,
    encode_credit,
    encode_frame,
    encode_message,
    encode_request,
)

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PIPE_BROKEN = 128 + signal.SIGPIPE
HELLO_S = 5.0
STREAM = 1  # the only one on this connection
READ_SIZE = 1 << 18
STOP = 0  # beside the numbers of signals


def attach(
    control: Path,
    argv: Sequence[str],
    *,
    tty: bool = False,
    interactive: bool = False,
    user: str | int = "agent",
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run `argv` in the guest behind the relay at `control`, on this process's descriptors 0, 1 and 2.

    Returns its exit code, 128+n for signal n. Standard input is read only when `interactive`. With `tty` the local
    terminal is raw meanwhile, always restored, and its size follows. Without, INT, TERM, HUP and QUIT are passed on.
    When our own output breaks, the command is ended. Must run in the main thread. Raises GuestError.
    """
    with Attachment(control, argv, tty=tty, interactive=interactive, user=user, cwd=cwd, env=env) as attachment:
        with _signals(attachment):
            return attachment.run()


class Attachment:
    """A command that has been asked for; `run` joins it to this process. A context manager that ends it.

    Waits up to HELLO_S for the relay; raises GuestError when nobody answers there.
    """

    def __init__(
        self,
        control: Path,
        argv: Sequence[str],
        *,
        tty: bool = False,
        interactive: bool = False,
        user: str | int = "agent",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        if tty and interactive and not os.isatty(0):
            raise GuestError("standard input is not a terminal", hint="leave out -t to pipe data into the command")
        environment = dict(env or {})
        if tty:
            environment.setdefault("TERM", os.environ.get("TERM", "xterm-256color"))
        rows, cols = terminal_size()
        request = {"argv": list(argv), "user": user, "cwd": cwd, "env": environment}
        request |= {"stdin": interactive, "tty": tty, "rows": rows, "cols": cols}
        try:
            message = encode_request("exec", request)
        except ValueError as error:
            raise GuestError(f"exec: {error}") from None
        self.tty = tty
        self._interactive = interactive
        self._decoder = Decoder()
        self._queue = bytearray(encode_message(STREAM, OPEN, message))  # what the relay has not taken yet
        self._chunks: deque[tuple[int, memoryview]] = deque()  # what readers of our output have not taken yet
        self._held = 0  # bytes received and not yet credited back
        self._consumed = 0  # of these, passed on
        self._credit = WINDOW
        self._message = bytearray()
        self._code: int | None = None
        self._error: GuestError | None = None
        self._socket = _dial(control, self._decoder)
        self._wake_read, self._wake_write = os.pipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def signal(self, number: int) -> None:
        """Tell of a signal to this process, from a handler or from any thread.

        With a terminal, the guest's own turns keys into signals: one that reaches us is meant for us and ends us.
        """
        os.write(self._wake_write, bytes([number]))

    def stop(self) -> None:
        """End the command, and `run` with it, from any thread."""
        self.signal(STOP)

    def run(self) -> int:
        """The command's exit code, or that of a signal that ended us, or of a broken pipe on our side."""
        with raw_terminal(0) if self.tty and self._interactive else contextlib.nullcontext():
            while self._chunks or not self._ended:
                self._step()
        if self._error:
            raise self._error
        assert self._code is not None
        return self._code

    @property
    def _ended(self) -> bool:
        """Nothing more will come (chunks may still wait for their reader)."""
        return self._code is not None or self._error is not None

    def _step(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if not self._ended:
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._queue else 0))
            # Input that the relay has no room for stays where it is.
            if self._interactive and self._credit and len(self._queue) < WINDOW:
                poll.register(0, select.POLLIN)
        if self._chunks:
            poll.register(self._chunks[0][0], select.POLLOUT)
        for fd, events in poll.poll():
            if fd == self._wake_read:
                for number in os.read(fd, 64):
                    self._signalled(number)
            elif fd == self._socket.fileno():
                if events & select.POLLOUT:
                    self._flush()
                if events & ~select.POLLOUT:
                    self._receive()
            elif fd == 0:
                self._feed()
            elif self._chunks:
                self._pass_on()

    def _signalled(self, number: int) -> None:
        if number == STOP or (self.tty and number != signal.SIGWINCH):
            self._break_off(128 + (number or signal.SIGTERM))
        elif number == signal.SIGWINCH:
            self._control(resize=list(terminal_size()))
        else:
            self._control(signal=number)

    def _control(self, **request: Any) -> None:
        self._queue += encode_frame(STREAM, CONTROL, 0, json.dumps(request).encode())

    def _break_off(self, code: int) -> None:
        """Want no more of it: its process group is ended, and so is this."""
        self._code = code
        self._chunks.clear()
        self._queue += encode_frame(STREAM, CLOSE)
        self._flush()

    # the relay

    def _flush(self) -> None:
        try:
            while self._queue:
                del self._queue[: self._socket.send(self._queue)]
        except BlockingIOError:
            pass
        except OSError:
            self._queue.clear()  # reading from it will say why

    def _receive(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(GuestError("the connection to the guest broke", str(error)))
            return
        for frame in self._decoder.feed(data):
            self._accept(frame)
        if self._decoder.skipped:
            self._fail(GuestError("the guest's agent sent garbage"))
        if not data:
            self._fail(GuestError("the guest is gone"))

    def _accept(self, frame: Frame) -> None:
        if frame.stream == 0 and frame.kind == RESTARTED:
            self._fail(GuestError("the guest's agent restarted"))
        elif frame.stream != STREAM or self._ended:
            return
        elif frame.kind == DATA:
            self._held += len(frame.payload)
            if self._held > WINDOW:
                self._fail(GuestError("the guest sent more than it was allowed to"))
            elif frame.payload:
                self._chunks.append((2 if frame.sub == 2 else 1, memoryview(frame.payload)))
        elif frame.kind == CREDIT:
            self._credit = min(WINDOW, self._credit + credit_of(frame))
        elif frame.kind == RESULT:
            self._message += frame.payload
            if len(self._message) > MAX_MESSAGE:
                self._fail(GuestError("the guest's answer is too long"))
            elif frame.sub != MORE:
                self._conclude(bytes(self._message))

    def _conclude(self, message: bytes) -> None:
        try:
            answer = decode_object(message)
        except ValueError as error:
            self._fail(GuestError(f"the guest's answer cannot be read: {error}"))
            return
        result = answer.get("ok")
        if not isinstance(result, dict):
            self._fail(GuestError.from_json(answer.get("error")))
            return
        code = result.get("code")
        if not isinstance(code, int) or not 0 <= code <= 255:
            self._fail(GuestError("the guest reported no exit code"))
            return
        self._code = code

    def _fail(self, error: GuestError) -> None:
        if not self._ended:
            self._error = error

    # our own streams

    def _feed(self) -> None:
        try:
            data = os.read(0, min(self._credit, MAX_PAYLOAD))
        except BlockingIOError:  # somebody else made the shared descriptor non-blocking
            return
        except OSError:
            data = b""
        if data:
            self._credit -= len(data)
            self._queue += encode_frame(STREAM, DATA, 0, data)
        else:
            self._interactive = False
            self._queue += encode_frame(STREAM, EOF)

    def _pass_on(self) -> None:
        fd, data = self._chunks.popleft()
        try:
            count = os.write(fd, data[: _room(fd)])
        except BlockingIOError:
            count = 0
        except OSError:
            self._break_off(PIPE_BROKEN)
            return
        if count < len(data):
            self._chunks.appendleft((fd, data[count:]))
        self._consumed += count
        if self._consumed >= WINDOW // 4 or not self._chunks:
            self._held -= self._consumed
            if not self._ended:
                self._queue += encode_credit(STREAM, self._consumed)
            self._consumed = 0


def _room(fd: int) -> int:
    """How much a descriptor that is ready surely takes at once: a write that waits would hold up signals and input."""
    return MAX_PAYLOAD if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF


def _dial(control: Path, decoder: Decoder) -> socket.socket:
    """A connection that has said hello; whatever comes next goes to `decoder`."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(HELLO_S)
        try:
            connection.connect(os.fspath(control))
        except OSError as error:
            raise GuestError(
                "the sandbox's supervisor does not answer",
                f"{control}: {error.strerror or error}",
                "`sandbox ls` shows what runs",
            ) from None
        _greet(connection, decoder)
        connection.setblocking(False)
    except BaseException:
        connection.close()
        raise
    return connection


def _greet(connection: socket.socket, decoder: Decoder) -> None:
    nonce = os.urandom(NONCE_SIZE)
    decoder.expect(nonce)
    give_up = time.monotonic() + HELLO_S
    try:
        connection.sendall(encode_frame(0, HELLO, 0, nonce))
        while (left := give_up - time.monotonic()) > 0:
            connection.settimeout(left)
            data = connection.recv(READ_SIZE)
            for frame in decoder.feed(data):
                if frame.stream == 0 and frame.kind == HELLO_OK:
                    read_hello(frame.payload[NONCE_SIZE:])
                    return
            if not data:
                raise GuestError("the guest is gone")
    except TimeoutError:
        pass
    except OSError as error:
        raise GuestError("the connection to the guest broke", str(error)) from None
    raise GuestError(f"the guest's agent did not answer within {HELLO_S:g} s")


@contextlib.contextmanager
def _signals(attachment: Attachment) -> Iterator[None]:
    """Tell of our signals for the length of the block."""

    def tell(number: int, _: FrameType | None) -> None:
        attachment.signal(number)

    numbers = (*FORWARDED, *([signal.SIGWINCH] if attachment.tty else []))
    before = {number: signal.signal(number, tell) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Every key goes to the guest as it is; the former settings come back with the end of the block."""
    import termios
    import tty

    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def terminal_size() -> tuple[int, int]:
    """(rows, columns) of the terminal we are on; 24 by 80 without one."""
    for fd in (1, 0, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(fd)
            if size.lines and size.columns:
                return size.lines, size.columns
    return 24, 80
