"""One command of the host: its process, its pipes or terminal, and its credit."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from .failure import Failure, Json, error_of
from .process import Child, SpawnFailure, exit_of, set_size, spawn, unread
from .wire import (
    CLOSE,
    CONTROL,
    CREDIT,
    DATA,
    EOF,
    MAX_PAYLOAD,
    STDERR,
    Frame,
    ReceiveWindow,
    SendWindow,
    credit_of,
    decode_object,
)

GRACE_S = 0.1  # how long an exec whose main process ended waits for output that a child still holds open


class Process(Protocol):
    """What can be ended with all that it has started: a command, or a session."""

    pid: int
    kill_at: float | None

    def reap(self) -> bool: ...


class Loop(Protocol):
    """What a command needs of the loop that it lives in (`loop.Loop`, which knows this module)."""

    streams: dict[int, Any]
    starting: set[Process]

    def send(self, stream: int, kind: int, sub: int = 0, payload: bytes = b"") -> None: ...

    def send_result(self, stream: int, result: Json) -> None: ...

    def send_credit(self, stream: int, size: int) -> None: ...

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None: ...

    def unwatch(self, fd: int) -> None: ...

    def watch_output(self, fd: int, handler: Callable[[int], None]) -> None: ...

    def unwatch_output(self, fd: int) -> None: ...

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None: ...

    def submit(self, work: Callable[[], Any], done: Callable[[Future[Any]], None]) -> None: ...

    def bury(self, process: Process) -> None: ...


class Exec:
    """One command of the host: its process, its pipes or terminal, and its credit."""

    def __init__(self, loop: Loop, stream: int, request: Json) -> None:
        self.silent = False
        self.pid = 0
        self.kill_at: float | None = None
        self._loop, self._stream = loop, stream
        self._child: Child | None = None
        self._closed = False
        self._sending = SendWindow()
        self._receiving = ReceiveWindow()
        self._input = bytearray()
        self._eof = self._eof_typed = False
        self._input_watched = False
        self._exit: int | None = None
        self._owed: dict[int, int] = {}
        self._grace_over = False
        self._resize: tuple[int, int] | None = None
        self._signals: list[int] = []
        loop.starting.add(self)
        loop.submit(lambda: spawn(request), self._spawned)

    def accept(self, frame: Frame) -> None:
        if frame.kind == DATA:
            self._take_input(frame.payload)
        elif frame.kind == EOF:
            self._eof = True
            if self._child:
                self._write()
        elif frame.kind == CREDIT:
            self._sending.grant(credit_of(frame))
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
            self._loop.bury(self)
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
        self._loop.starting.discard(self)
        error = future.exception()
        if isinstance(error, SpawnFailure):
            if not self._closed:
                self._loop.send(self._stream, DATA, STDERR, f"{error}\n".encode(errors="replace")[:4096])
            self._result({"ok": {"code": error.code, "signal": None}})
            return
        if error is not None:
            self._result(error_of(error, "exec"))
            return

        self._child = child = future.result()
        self.pid = child.process.pid
        if self._closed:
            self._end()
            return
        self._loop.watch(child.pidfd, select.EPOLLIN, self._exited)
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

    def _take_input(self, data: bytes) -> None:
        try:
            self._receiving.arrive(len(data))
        except ValueError as error:
            self._fail(Failure(f"input: {error}"))
            return
        self._input += data
        if self._child:
            self._write()

    def _write(self, events: int = 0) -> None:
        child = self._child
        assert child
        had = len(self._input)
        try:
            while self._input and child.stdin >= 0:
                with memoryview(self._input) as view:
                    count = os.write(child.stdin, view[:MAX_PAYLOAD])
                del self._input[:count]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it any more: swallow the rest, so that the sender does not wait for credit
            self._close_input()
        if child.stdin < 0:
            self._input.clear()
        if not self._eof:  # after it nothing more comes for which there could be credit
            credit = self._receiving.consume(had - len(self._input), now=not self._input)
            if credit:
                self._loop.send_credit(self._stream, credit)
        elif not self._input and child.stdin >= 0:
            self._end_input()
        self._watch_input(bool(self._input) and child.stdin >= 0)

    def _end_input(self) -> None:
        child = self._child
        assert child
        if not child.is_tty:
            self._close_input()
        elif not self._eof_typed:
            self._eof_typed = True
            self._input += b"\x04"
            self._write()

    def _watch_input(self, wanted: bool) -> None:
        assert self._child
        if wanted and not self._input_watched:
            self._loop.watch(self._child.stdin, select.EPOLLOUT, self._write)
        elif self._input_watched and not wanted:
            self._loop.unwatch(self._child.stdin)
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
        if self._child and self._sending.room:
            for fd in self._child.outputs:
                self._loop.watch_output(fd, lambda _, fd=fd: self._read(fd))  # type: ignore[misc]

    def _read(self, fd: int) -> None:
        child = self._child
        assert child
        if not self._sending.room:
            self._loop.unwatch_output(fd)
            return
        try:
            data = os.read(fd, self._sending.room)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process let go of the terminal
            data = b""
        if data:
            self._sending.spend(len(data))
            self._loop.send(self._stream, DATA, child.outputs[fd], data)
            if self._exit is not None:
                self._owed[fd] = self._owed.get(fd, 0) - len(data)
        else:
            self._drop_output(fd)
        self._finish_if_done()

    def _drop_output(self, fd: int) -> None:
        assert self._child
        self._loop.unwatch_output(fd)
        if fd == self._child.stdin:  # a terminal's master is both
            self._close_input()
        del self._child.outputs[fd]
        os.close(fd)

    def _exited(self, events: int) -> None:
        child = self._child
        assert child
        if child.process.poll() is None:
            return  # an event of an earlier descriptor with this number
        self._loop.unwatch(child.pidfd)
        self._exit = child.process.returncode
        # What is in the pipes now is owed; a background child that holds them open gets a short grace and no more.
        self._owed = {fd: unread(fd) for fd in child.outputs}
        self._loop.call_later(GRACE_S, self._end_grace)
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
            self._loop.unwatch(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = -1

    def _result(self, result: Json) -> None:
        if not self.silent:
            self.silent = True
            del self._loop.streams[self._stream]
            self._loop.send_result(self._stream, result)
