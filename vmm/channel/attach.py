"""The body of `sandbox exec [-it]`: this process's streams, terminal and signals, joined to a command in the guest.

One loop over poll(2), without asyncio: importing that would take as long as everything else before the command runs.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import time

from vmm.channel.answers import exit_code
from vmm.channel.conversation import Conversation
from vmm.channel.dial import READ_SIZE, dial
from vmm.channel.errors import GuestError, restarted
from vmm.channel.patience import Patience
from vmm.channel.terminal import raw_terminal, terminal_size
from vmm.guest.guestd.wire import (
    DATA,
    MAX_PAYLOAD,
    MORE,
    OPEN,
    RESTARTED,
    RESULT,
    STDERR,
    WINDOW,
    Decoder,
    Frame,
    encode_message,
    encode_request,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType
    from typing import Any, ClassVar, Self

    from vmm.channel.screen import Screen

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PIPE_BROKEN = 128 + signal.SIGPIPE
STREAM = 1  # the command's; those of questions whether the guest is there have the numbers after it
STOP = 0  # beside the numbers of signals
INTERRUPT_KEY = b"\x03"


def attach(
    control: Path | str,
    argv: Sequence[str],
    *,
    tty: bool = False,
    interactive: bool = False,
    user: str | int = "agent",
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    forward: bool = True,
) -> int:
    """Run `argv` in the guest behind the relay at `control`, on this process's descriptors 0, 1 and 2.

    Returns its exit code, 128+n for signal n. Standard input is read only when `interactive`. With `tty` the local
    terminal is raw meanwhile, always restored, and its size follows. Without, INT, TERM, HUP and QUIT are passed on;
    a second INT or TERM soon after ends us, and so does a guest that does not answer (`Patience`). Without `forward`
    the first one does. When our own output breaks, the command is ended. To be called in the main thread. Raises
    GuestError.
    """
    options: dict[str, Any] = {"user": user, "cwd": cwd, "env": env, "forward": forward}
    with Attachment(control, argv, tty=tty, interactive=interactive, **options) as attachment:
        with watch_signals(attachment):
            return attachment.run()


class Attachment:
    """A command that has been asked for; `run` joins it to this process. A context manager that ends it.

    Waits for the relay as `dial` does; raises GuestError when nobody answers there.
    """

    OPERATION = "exec"
    SIGNALS: ClassVar[tuple[signal.Signals, ...]] = (*FORWARDED, signal.SIGWINCH)
    GLANCE_S: ClassVar[float | None] = None  # after so long without anything `_aside` is asked again
    SPARE = 0  # bytes of credit that `_typed` may need beyond what was read

    def __init__(
        self,
        control: Path | str,
        argv: Sequence[str],
        *,
        tty: bool = False,
        interactive: bool = False,
        user: str | int = "agent",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        forward: bool = True,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """`more`: what the request says besides."""
        if tty and interactive and not os.isatty(0):
            raise GuestError("standard input is not a terminal", hint="leave out -t to pipe data into the command")
        environment = dict(env or {})
        if tty:
            environment.setdefault("TERM", os.environ.get("TERM", "xterm-256color"))
        rows, cols = terminal_size()
        request = {"argv": list(argv), "user": user, "cwd": cwd, "env": environment}
        request |= {"stdin": interactive, "tty": tty, "rows": rows, "cols": cols, **(more or {})}
        self.tty = tty
        self._interactive = interactive
        self._decoder = Decoder()
        self._command = Conversation(STREAM)
        self._queue = bytearray(self._command.open(self.OPERATION, request))  # what the relay has not taken yet
        self._forward = forward and not tty
        self._patience = Patience()
        self._asked = STREAM
        self._own = b""  # what `_aside` has said and nobody has written yet
        self._screen = _screen() if tty else None
        self._words = ""
        self._code: int | None = None  # of what ended us before the command's own
        self._socket = dial(control, self._decoder)
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
        code = None
        try:
            with raw_terminal(0) if self.tty and self._interactive else contextlib.nullcontext():
                while self._command.backlog or not self._command.ended:
                    self._step()
            code = self._exit_code()
        finally:
            if self._screen and self._must_restore(code):
                self._screen.restore(1)
            if self._words:
                _say(self._words)
        return code

    def _must_restore(self, code: int | None) -> bool:
        """Whether the program may have left without putting the terminal right."""
        return code is None or code >= 128

    def _exit_code(self) -> int:
        if self._code is not None:
            return self._code
        if self._command.error:
            raise self._command.error
        return exit_code(self._command.result)

    def _step(self) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if not self._command.ended:
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._queue else 0))
            # Input that the relay has no room for stays where it is.
            if self._interactive and self._command.room > self.SPARE and len(self._queue) < WINDOW:
                poll.register(0, select.POLLIN)
        self._own = self._own or self._aside()
        if self._own:
            poll.register(1, select.POLLOUT)
        elif self._command.backlog:
            poll.register(self._output, select.POLLOUT)
        left = self._patience.left(time.monotonic())
        if self.GLANCE_S is not None:
            left = self.GLANCE_S if left is None else min(left, self.GLANCE_S)
        for fd, events in poll.poll(None if left is None else left * 1000 + 1):
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
            elif self._own:
                self._write_own()
            elif self._command.backlog:
                self._pass_on()
        if self._patience.left(time.monotonic()) == 0 and not self._command.ended:
            self._words = "the guest does not answer; nobody knows what became of the command"
            self._break_off(128 + self._patience.number)

    @property
    def _output(self) -> int:
        return 2 if self._command.backlog.first == STDERR else 1

    def _signalled(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._queue += self._command.control(resize=list(terminal_size()))
        elif number == STOP or not self._forward:
            self._break_off(128 + (number or signal.SIGTERM))
        elif self._patience.is_second(number, time.monotonic()):
            self._break_off(128 + number)
        else:
            self._queue += self._command.control(signal=number)
            self._ask(number)

    def _ask(self, number: int) -> None:
        """Ask the guest for a sign of life, once: signal `number` is meant to end something there."""
        if self._patience.begin(number, time.monotonic()):
            self._asked += 1
            self._queue += encode_message(self._asked, OPEN, encode_request("ping", {}))

    def _break_off(self, code: int) -> None:
        """Want no more of it: its process group is ended, and so is this."""
        self._code = code
        self._command.backlog.clear()
        self._queue += self._command.close()
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
            self._command.lose(GuestError("the connection to the guest broke", str(error)))
            return
        for frame in self._decoder.feed(data):
            self._accept(frame)
        if self._decoder.skipped:
            self._command.lose(GuestError("the guest sent garbage"))
        if not data:
            self._command.lose(GuestError("the guest is gone"))

    def _accept(self, frame: Frame) -> None:
        if frame.stream == 0 and frame.kind == RESTARTED:
            self._command.lose(restarted())
        elif frame.stream == self._asked != STREAM and frame.kind == RESULT and frame.sub != MORE:
            self._patience.end()
        elif frame.stream == STREAM:
            self._queue += self._command.accept(frame)
            if frame.kind == DATA and self._screen and not self._command.ended:
                self._screen.saw(frame.payload)

    # our own streams

    def _feed(self) -> None:
        try:
            data = os.read(0, self._command.room - self.SPARE)
        except BlockingIOError:  # somebody else made the shared descriptor non-blocking
            return
        except OSError:
            data = b""
        if not data:
            self._interactive = False
            self._end_input()
        elif data := self._typed(data):
            self._queue += self._command.data(data)
            if self.tty and INTERRUPT_KEY in data:
                self._ask(signal.SIGINT)  # no key reaches us here: without an answer, this one must

    def _aside(self) -> bytes:
        """Words of our own for the terminal, few, to be written before what comes next from the command."""
        return b""

    def _write_own(self) -> None:
        own, self._own = self._own, b""
        try:
            os.write(1, own)
        except OSError:
            self._break_off(PIPE_BROKEN)

    def _passed(self, data: bytes) -> None:
        """The command's output that was written to our own."""

    def _typed(self, data: bytes) -> bytes:
        """What of it is for the command: at most SPARE bytes more than `data`."""
        return data

    def _end_input(self) -> None:
        self._queue += self._command.eof()

    def _pass_on(self) -> None:
        fd = self._output
        try:
            count = os.write(fd, self._command.backlog.peek(_room(fd)))
        except BlockingIOError:
            return
        except OSError:
            self._break_off(PIPE_BROKEN)
            return
        self._passed(self._command.backlog.peek(count))
        self._command.backlog.drop(count)
        self._queue += self._command.consumed(count)


def _screen() -> Screen:
    from vmm.channel.screen import Screen  # here, since it compiles patterns, and most commands have no terminal

    return Screen()


def _say(words: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"sandbox: {words}\n".encode())


def _room(fd: int) -> int:
    """How much a descriptor that is ready surely takes at once: a write that waits would hold up signals and input."""
    return MAX_PAYLOAD if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF


@contextlib.contextmanager
def watch_signals(attachment: Attachment) -> Iterator[None]:
    """Tell of our signals for the length of the block."""

    def tell(number: int, _: FrameType | None) -> None:
        attachment.signal(number)

    numbers = attachment.SIGNALS if attachment.tty else FORWARDED
    before = {number: signal.signal(number, tell) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
