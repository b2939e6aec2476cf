"""The client of `fork_server.py`: a process object that is like subprocess.Popen where the tests need it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DEADLINE_S = 40.0
SERVER = Path(__file__).with_name("fork_server.py")


class Forked:
    """A process that was asked for; `stdin`, `stdout` and `stderr` are our ends of its streams."""

    def __init__(self, status: int, stdin: int | None, stdout: int, stderr: int) -> None:
        self._status = os.fdopen(status, "rb", buffering=0)
        self._code: int | None = None
        self.stdin = None if stdin is None else os.fdopen(stdin, "wb", buffering=0)
        self.stdout = os.fdopen(stdout, "rb", buffering=0)
        self.stderr = os.fdopen(stderr, "rb", buffering=0)
        self.pid = self._number(DEADLINE_S)

    def _number(self, timeout_s: float) -> int:
        with selectors.DefaultSelector() as selector:
            selector.register(self._status, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                raise subprocess.TimeoutExpired("a forked process", timeout_s)
        line = self._status.readline()
        assert line, "the fork server has ended"
        return int(line)

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""
        if self._code is None:
            self._code = self._number(timeout_s)
        return self._code

    def kill(self) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def communicate(self, data: bytes = b"") -> tuple[bytes, bytes]:
        """Write `data`, which a pipe must hold, and read both streams to their ends, at most DEADLINE_S."""
        if self.stdin is not None:
            assert len(data) <= 4096
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(data)
            self.stdin.close()
        until = time.monotonic() + DEADLINE_S
        read: dict[Any, bytes] = {self.stdout: b"", self.stderr: b""}
        with selectors.DefaultSelector() as selector:
            for stream in read:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, until - time.monotonic()))
                if not ready:
                    raise subprocess.TimeoutExpired("a forked process", DEADLINE_S)
                for key, _ in ready:
                    chunk = os.read(key.fd, 65536)
                    read[key.fileobj] += chunk
                    if not chunk:
                        selector.unregister(key.fileobj)
        return read[self.stdout], read[self.stderr]

    def close(self) -> None:
        """Kill it if it still runs, wait for it, and let go of its streams."""
        try:
            self.kill()
            self.wait()
        finally:
            for stream in (self.stdin, self.stdout, self.stderr, self._status):
                if stream is not None:
                    stream.close()


class ForkServer:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests

    @contextlib.contextmanager
    def start(
        self,
        main: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: bool = False,
        changes: Mapping[str, object] | None = None,
    ) -> Iterator[Forked]:
        """A process for as long as the block runs: it calls `main` ("module:function") with sys.argv = `argv`.

        Its standard input is empty, or a pipe when `stdin` says so. `changes` ("module.NAME" -> value) are made in it
        alone, for deadlines that no test wants to sit out.
        """
        request = {"main": main, "argv": list(argv), "env": dict(env), "cwd": str(cwd), "changes": dict(changes or {})}
        pipes = [os.pipe() for _ in range(3)]
        (out, theirs_out), (err, theirs_err), (status, theirs_status) = pipes
        theirs_in, into = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), None)
        theirs = [theirs_in, theirs_out, theirs_err, theirs_status]
        try:
            socket.send_fds(self._requests, [json.dumps(request).encode()], theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        process = Forked(status, into, out, err)
        try:
            yield process
        finally:
            process.close()


@contextlib.contextmanager
def start_fork_server() -> Iterator[ForkServer]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = [sys.executable, str(SERVER), str(theirs.fileno())]
    null = subprocess.DEVNULL
    with ours, subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=null, stdout=null) as process:
        theirs.close()
        try:
            yield ForkServer(ours)
        finally:
            ours.close()
            try:
                process.wait(DEADLINE_S)
            finally:
                process.kill()
