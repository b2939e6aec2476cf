"""The host's end of a channel: calls, commands and streams over one connection."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from vmm.channel.answers import exit_code
from vmm.channel.errors import GuestError, GuestSilent, restarted
from vmm.channel.greeting import Hello, read_hello
from vmm.channel.stream import Stream
from vmm.connection import close_writer
from vmm.guest.guestd.wire import (
    FLUSH,
    HELLO,
    HELLO_OK,
    NONCE_SIZE,
    RESTARTED,
    STDERR,
    STDOUT,
    Decoder,
    Frame,
    encode_frame,
)

READ_SIZE = 1 << 18
ANSWER_MARGIN_S = 2.0  # beyond an operation's own deadline, for its answer to arrive
HELLO_AGAIN_S = 3.0
FOLLOW_S = 0.5  # before a guestd that has restarted is greeted
CLOSE_S = 1.0
UNREAD_LIMIT = 1 << 20  # queued for a peer; beyond it we read nothing of one that reads nothing of ours
OUTPUT_LIMIT = 64 << 20  # what `run` keeps of each of stdout and stderr: the end of it


class Completed(NamedTuple):
    """A finished command. `code` is 128+n for signal n. Output above what `run` keeps lost its beginning."""

    code: int
    stdout: bytes
    stderr: bytes


class Sink(Protocol):
    """Where the frames of one stream go."""

    def accept(self, frame: Frame) -> None: ...

    def lose(self, error: GuestError) -> None: ...


class GuestChannel:
    """A connection to guestd, or to a supervisor that relays to it. An async context manager.

    One task reads and never waits for a stream: each stream holds what was sent under its own credit.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder()
        self._sinks: dict[int, Sink] = {}
        self._began: dict[int, float] = {}
        self.opened = asyncio.Event()  # set whenever a stream is
        self._next = 1
        self.peer: Hello | None = None
        self._ended: GuestError | None = None
        self._lost: GuestError | None = GuestError("the channel has not said hello yet")
        self._deaf = True
        self._answer: asyncio.Future[bytes] | None = None
        self._nonce = b""
        self._task: asyncio.Task[None] | None = None
        self._restarted = asyncio.Event()
        self._is_followed = False

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to read."""
        if self._task is None:
            self._task = asyncio.create_task(self._read(), name="channel reader")

    async def close(self) -> None:
        """End all streams (their processes with them, where the peer is a relay) and the connection."""
        self._lose(GuestError("the channel was closed"))
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await close_writer(self._writer, CLOSE_S)

    @property
    def streams(self) -> int:
        """How many streams are open now, those of a relay's clients among them."""
        return len(self._sinks)

    @property
    def began(self) -> Iterable[float]:
        """When each of them was opened, in the loop's time."""
        return self._began.values()

    @property
    def lost(self) -> GuestError | None:
        """Why the channel is of no use now; None while it is."""
        return self._lost

    async def hello(self, timeout_s: float = 10.0, *, flush: bool = True) -> Hello:
        """Take the guest over: what a previous host had started there is ended. May be repeated, after a reboot.

        `flush` clears half a frame of a previous host out of the pipe; a fresh connection needs none. Waits up to
        `timeout_s`; raises GuestError when nobody answers, or somebody of another protocol.
        """
        self.greet(flush=flush)
        return await self.greeted(timeout_s)

    def greet(self, *, flush: bool = True, at_once: bool = False) -> None:
        """The first half of `hello`: say it. `greeted` waits for the answer.

        With `at_once` calls may follow before the answer: right for a guest that was restored with its guestd, which
        reads them in their order. Raises GuestError when the connection has ended.
        """
        self.start()
        if self._ended:
            raise self._ended
        self._lose(GuestError("the channel was reset"))
        self._nonce = secrets.token_bytes(NONCE_SIZE)
        self._answer = asyncio.get_running_loop().create_future()
        self._decoder.expect(self._nonce)
        self._deaf = False
        self._writer.write((FLUSH if flush else b"") + encode_frame(0, HELLO, 0, self._nonce))
        if at_once:
            self._lost = None

    async def greeted(self, timeout_s: float) -> Hello:
        """The second half of `hello`: wait for the answer to what `greet` said."""
        assert self._answer is not None, "`greet` comes first"
        try:
            async with asyncio.timeout(timeout_s):
                while not self._answer.done():
                    # A guestd that restarts swallows what was on its way, hence again; the same nonce resets once.
                    await asyncio.wait({self._answer}, timeout=HELLO_AGAIN_S)
                    transport = self._writer.transport
                    if not self._answer.done() and not transport.get_write_buffer_size():
                        self._writer.write(encode_frame(0, HELLO, 0, self._nonce))
        except TimeoutError:
            error = GuestSilent(f"the guest did not answer within {timeout_s:g} s")
            self._lose(error)
            raise error from None
        hello = read_hello(self._answer.result())
        self._lost = None
        self.peer = hello
        return hello

    async def follow(self, log: Callable[[str], object], patience: Callable[[], float]) -> None:
        """Take the guest over again each time guestd has restarted, so that what is asked next is answered.

        What ran in a stream has failed by then. At most once in FOLLOW_S, as root in the guest decides how often that
        is. Where guestd does not answer within the seconds that `patience` gives, nobody tries again: all that a guest
        sends in vain would have to be read. Ends only when it is cancelled, or with the connection.
        """
        self._is_followed = True
        while self._ended is None:
            await self._restarted.wait()
            await asyncio.sleep(FOLLOW_S)
            self._restarted.clear()
            try:
                await self.hello(patience())
                log("guestd has restarted, and answers again")
            except GuestError as error:
                log(f"guestd has restarted: {error.brief}")

    async def call(self, op: str, timeout_s: float, **args: Any) -> dict[str, Any]:
        """One operation of guestd (or the supervisor), and its answer. `timeout_s` is its deadline, there and here.

        Raises GuestError when it fails, GuestSilent when nothing answers in time; the operation is then cancelled.
        """
        async with self.open(op, timeout_s=timeout_s, **args) as stream:
            try:
                async with asyncio.timeout(timeout_s + ANSWER_MARGIN_S):
                    return await stream.result()
            except TimeoutError:
                raise GuestSilent(f"{op}: no answer from the guest within {timeout_s:g} s") from None

    @contextlib.asynccontextmanager
    async def open(self, op: str, **args: Any) -> AsyncIterator[Stream]:
        """A conversation: the request, then chunks both ways, then a result; closed with the block."""
        stream = self.open_stream(op, args)
        try:
            yield stream
        finally:
            stream.close()

    @contextlib.asynccontextmanager
    async def open_exec(
        self,
        argv: Sequence[str],
        *,
        user: str | int = "root",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
        tty: bool = False,
        rows: int = 24,
        cols: int = 80,
    ) -> AsyncIterator[ExecStream]:
        """A command in the guest. Leaving the block before it ended ends its whole process group: TERM, later KILL."""
        request = {"argv": list(argv), "user": user, "cwd": cwd, "env": dict(env or {})}
        async with self.open("exec", **request, stdin=stdin, tty=tty, rows=rows, cols=cols) as stream:
            yield ExecStream(stream)

    async def run(
        self,
        argv: Sequence[str],
        *,
        user: str | int = "root",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout_s: float,
        on_output: Callable[[str, bytes], None] | None = None,
        keep: int = OUTPUT_LIMIT,
    ) -> Completed:
        """Run a command to its end. `on_output` gets ("stdout" or "stderr", bytes) as they come.

        Of each stream the last `keep` bytes are returned.

        A code other than 0 is no error. Raises GuestError when it cannot be run at all or takes longer than `timeout_s`
        (its last output in `details`); then, as on cancellation, the command is ended.
        """
        kept = {STDOUT: Tail(keep), STDERR: Tail(keep)}
        names = {STDOUT: "stdout", STDERR: "stderr"}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self.open_exec(argv, user=user, cwd=cwd, env=env, stdin=stdin is not None) as command,
            ):
                feeding = asyncio.create_task(command.feed(stdin)) if stdin is not None else None
                try:
                    async for fd, data in command:
                        if fd in kept:
                            kept[fd].append(data)
                            if on_output:
                                on_output(names[fd], data)
                finally:
                    if feeding:
                        feeding.cancel()
                        await asyncio.gather(feeding, return_exceptions=True)
                code = await command.wait()
        except TimeoutError:
            said = (kept[STDERR].join() or kept[STDOUT].join())[-2000:].decode(errors="replace")
            raise GuestError(f"{argv[0]}: not done within {timeout_s:g} s", said or None) from None
        return Completed(code, kept[STDOUT].join(), kept[STDERR].join())

    # streams

    def open_stream(self, op: str, request: dict[str, Any]) -> Stream:
        """A stream that the caller must close. Raises GuestError when there is no guest or the request is too long."""
        if self._lost:
            raise self._lost
        number = self._next
        stream = Stream(number, self.write, self.drain)
        stream.open(op, request)
        stream.on_end = lambda: self.detach(number)
        self.attach(stream)
        return stream

    def attach(self, sink: Sink) -> int:
        """Give `sink` a stream number of its own. Raises GuestError when there is no guest."""
        if self._lost:
            raise self._lost
        number = self._next
        self._next += 1
        self._sinks[number] = sink
        self._began[number] = asyncio.get_running_loop().time()
        self.opened.set()
        return number

    def detach(self, number: int) -> None:
        self._sinks.pop(number, None)
        self._began.pop(number, None)

    def write(self, frames: bytes) -> None:
        """Queue encoded frames."""
        if not self._lost:
            self._writer.write(frames)

    async def drain(self) -> None:
        """Wait while more is queued for the peer than it takes."""
        with contextlib.suppress(ConnectionError):  # the reader says so to whom it concerns
            await self._writer.drain()

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(READ_SIZE):
                if self._deaf:
                    continue  # until the next hello nothing counts; to search it for frames would keep us busy
                for frame in self._decoder.feed(data):
                    self._dispatch(frame)
                if self._decoder.skipped:
                    if not self._deaf:  # else it has said why in the same breath
                        self._lose(GuestError("the guest sent garbage"))
                    self._restarted.set()  # a guestd that has restarted begins with the end of a frame
                    self._decoder.skipped = 0
                if self._writer.transport.get_write_buffer_size() > UNREAD_LIMIT:
                    await self.drain()
        except OSError as error:
            self._gone(GuestError("the connection to the guest broke", str(error)))
        else:
            self._gone(GuestError("the guest is gone"))

    def _dispatch(self, frame: Frame) -> None:
        if sink := self._sinks.get(frame.stream):
            sink.accept(frame)
        elif frame.stream == 0 and frame.kind == HELLO_OK:
            if self._answer and not self._answer.done() and frame.payload[:NONCE_SIZE] == self._nonce:
                self._answer.set_result(frame.payload[NONCE_SIZE:])
        elif frame.stream == 0 and frame.kind == RESTARTED:
            self._lose(restarted(followed=self._is_followed))
            self._restarted.set()

    def _gone(self, error: GuestError) -> None:
        self._ended = error
        self._lose(error)
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)
            self._answer.exception()  # seen, even when nobody waits any more

    def _lose(self, error: GuestError) -> None:
        self._lost = error
        self._deaf = True
        sinks, self._sinks, self._began = self._sinks, {}, {}
        for sink in sinks.values():
            sink.lose(error)


class ExecStream:
    """A running command: iterate for (fd, bytes) until it ends. With a terminal everything comes as fd 1."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        return self._stream.__aiter__()

    @property
    def ended(self) -> bool:
        """Nothing more comes of it, and nothing reaches it."""
        return self._stream.ended

    async def write_stdin(self, data: bytes) -> None:
        """Waits until the command's pipe has room. When it has ended or does not read, data is dropped in silence."""
        await self._stream.send(data)

    def close_stdin(self) -> None:
        self._stream.send_eof()

    async def feed(self, data: bytes) -> None:
        """All of its input, then its end."""
        await self.write_stdin(data)
        self.close_stdin()

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        self._stream.control(signal=int(number))

    def close(self) -> None:
        """End it: TERM to its process group, KILL some seconds later. Does not wait."""
        self._stream.close()

    async def wait(self) -> int:
        """The exit code, 128+n for signal n; output not yet read is thrown away. Raises GuestError when it is lost."""
        return exit_code(await self._stream.result())


class Tail:
    """The last `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def append(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._limit + self._limit // 4:  # not at each append: that may move them all
            del self._data[: -self._limit]

    def join(self) -> bytes:
        return bytes(self._data[-self._limit :])
