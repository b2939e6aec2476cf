"""The body of `sandbox exec [-it]`: this process's streams, terminal and signals, joined to a command in the guest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import TypeVar

from vmm.channel.errors import GuestError
from vmm.channel.guest import ExecStream, GuestChannel

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PIPE_BROKEN = 128 + signal.SIGPIPE
T = TypeVar("T")


async def attach(
    client: GuestChannel,
    argv: Sequence[str],
    *,
    tty: bool = False,
    interactive: bool = False,
    user: str | int = "agent",
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run `argv` in the guest on this process's descriptors 0, 1 and 2; returns its exit code, 128+n for signal n.

    Standard input is read only when `interactive`. With `tty` the local terminal is raw meanwhile, always restored, and
    its size follows. Without, INT, TERM, HUP and QUIT are passed on. When our own output breaks, the command is ended.
    Must run in the main thread. Raises GuestError.
    """
    if tty and interactive and not os.isatty(0):
        raise GuestError("standard input is not a terminal", hint="leave out -t to pipe data into the command")
    environment = dict(env or {})
    if tty:
        environment.setdefault("TERM", os.environ.get("TERM", "xterm-256color"))
    rows, cols = terminal_size()
    async with client.open_exec(
        argv, user=user, cwd=cwd, env=environment, stdin=interactive, tty=tty, rows=rows, cols=cols
    ) as command:
        with contextlib.ExitStack() as stack:
            ending = stack.enter_context(_signals(command, tty=tty))
            if tty and interactive:
                stack.enter_context(raw_terminal(0))
            output = stack.enter_context(OutputPump())
            feeding = None
            if interactive:
                source = stack.enter_context(InputPump(0))
                feeding = asyncio.create_task(_feed(source, command))
            try:
                return await _until_end(command, output, ending)
            finally:
                if feeding:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)


async def _until_end(command: ExecStream, output: OutputPump, ending: asyncio.Future[int]) -> int:
    """The command's code, or that of a signal that ends us, or of a broken pipe on our side."""
    relaying = asyncio.create_task(_relay_output(command, output))
    try:
        await asyncio.wait({relaying, ending}, return_when=asyncio.FIRST_COMPLETED)
        return relaying.result() if relaying.done() else ending.result()
    finally:
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)


async def _relay_output(command: ExecStream, output: OutputPump) -> int:
    async for fd, data in command:
        if not await output.write(2 if fd == 2 else 1, data):
            command.close()
            return PIPE_BROKEN
    return await command.wait()


async def _feed(source: InputPump, command: ExecStream) -> None:
    while data := await source.read():
        await command.write_stdin(data)
    command.close_stdin()


@contextlib.contextmanager
def _signals(command: ExecStream, *, tty: bool) -> Iterator[asyncio.Future[int]]:
    """Handle our signals for the length of the block; the future gets the code when one of them is to end us.

    With a terminal the guest's own turns keys into signals, so one that reaches us is meant for us.
    """
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[int] = loop.create_future()

    def end(number: int) -> None:
        if not ending.done():
            ending.set_result(128 + number)

    for number in FORWARDED:
        loop.add_signal_handler(number, end if tty else command.signal, number)
    if tty:
        loop.add_signal_handler(signal.SIGWINCH, lambda: command.resize(*terminal_size()))
    try:
        yield ending
    finally:
        for number in (*FORWARDED, *([signal.SIGWINCH] if tty else [])):
            loop.remove_signal_handler(number)


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


class InputPump:
    """Reads a descriptor in a thread: it may be a file (which no loop can watch), and setting a shared terminal to
    non-blocking would do the same to everybody else who has it open."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._wake_read, self._wake_write = os.pipe()
        self._wanted: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Future[bytes]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True, name="standard input")

    def __enter__(self) -> InputPump:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._wake_write)
        self._wanted.put(None)
        self._thread.join()
        os.close(self._wake_read)

    async def read(self) -> bytes:
        """What is there, at most 64 KiB; b"" at the end."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self._wanted.put((loop, future))
        return await future

    def _run(self) -> None:
        while wanted := self._wanted.get():
            loop, future = wanted
            poll = select.poll()
            poll.register(self._wake_read, select.POLLIN)
            poll.register(self._fd, select.POLLIN)
            ready = [fd for fd, _ in poll.poll()]
            if self._wake_read in ready:
                return
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                self._wanted.put(wanted)
                continue
            except OSError:
                data = b""
            _deliver(loop, future, data)


class OutputPump:
    """Writes in a thread, so that a slow reader of ours (a pager) does not hold up signals."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._busy = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="standard output")

    def __enter__(self) -> OutputPump:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        if not self._busy:  # else it hangs in a write that nobody takes, and must not hold us
            self._thread.join()

    async def write(self, fd: int, data: bytes) -> bool:
        """Write all of it; False when nobody can read it any more."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._busy = True
        self._jobs.put(lambda: _deliver(loop, future, write_all(fd, data)))
        written = await future
        self._busy = False
        return written

    def _run(self) -> None:
        while job := self._jobs.get():
            job()


def write_all(fd: int, data: bytes) -> bool:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody else made the shared descriptor non-blocking
            waiting = select.poll()
            waiting.register(fd, select.POLLOUT)
            waiting.poll()
        except OSError:
            return False
    return True


def _deliver(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], value: T) -> None:
    def settle() -> None:
        if not future.done():
            future.set_result(value)

    with contextlib.suppress(RuntimeError):  # the loop has ended in the meantime
        loop.call_soon_threadsafe(settle)
