"""What listens on the published ports of a paused sandbox, and wakes it when somebody connects.

`python -m engine.supervisor.waker NAME DIRECTORY` is started by the supervisor that pauses, with the listeners. It
accepts no connection and reads no byte of one: the kernel keeps what connects until the supervisor that goes on has
taken the listeners, by the socket in DIRECTORY. It ends with the pause: when the sandbox runs, or is taken down.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from vmm.confine import forbid_core_dumps

TAKE, DONE, END = b"T", b"D", b"E"
MOST_LISTENERS = 200  # the kernel passes on no more than 253 descriptors at once
LOOK_S = 0.25  # between two looks while `resume` runs
IDLE_LOOK_S = 30.0  # between two looks whether the sandbox is paused still
RETRY_S = 5.0  # after a `resume` that failed, before who connected is sent away
LONGEST = 64 << 20  # bytes on standard input


class Waker:
    """Watches the `listeners`, (port, socket), for the sandbox `name`, which is paused while `paused` is there.

    `variables` are what `resume` gets in its environment: the values that the supervisor had from the user's.
    """

    def __init__(
        self,
        name: str,
        paused: Path,
        listeners: list[tuple[int, socket.socket]],
        control: socket.socket,
        variables: dict[str, str],
    ) -> None:
        self._name = name
        self._paused = paused
        self._listeners = listeners
        self._control = control
        self._variables = variables
        self._selector = selectors.DefaultSelector()
        self._borrower: socket.socket | None = None
        self._resume: subprocess.Popen[bytes] | None = None
        self._failed: float | None = None

    def run(self) -> None:
        """Return when the sandbox runs, is taken down, or is paused no more."""
        self._selector.register(self._control, selectors.EVENT_READ)
        self._watch()
        while self._borrower is not None or self._paused.is_dir():
            busy = self._resume is not None or self._failed is not None
            for key, _ in self._selector.select(LOOK_S if busy else IDLE_LOOK_S):
                if key.fileobj is self._control:
                    if self._answer():
                        return
                elif key.fileobj is self._borrower:
                    if self._hear():
                        return
                elif self._resume is None and self._failed is None and self._borrower is None:
                    self._wake()
            self._look()

    def _watch(self) -> None:
        for _, listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)

    def _look_away(self) -> None:
        for _, listener in self._listeners:
            with contextlib.suppress(KeyError):
                self._selector.unregister(listener)

    def _answer(self) -> bool:
        """Hand out the listeners; True when it is asked to end."""
        client, _ = self._control.accept()
        client.settimeout(1.0)
        try:
            word = client.recv(1)
            if word == TAKE and self._borrower is None:
                sockets = [listener.fileno() for _, listener in self._listeners]
                socket.send_fds(client, [json.dumps([port for port, _ in self._listeners]).encode()], sockets)
                self._borrower = client
                self._selector.register(client, selectors.EVENT_READ)
                self._look_away()
                return False
        except OSError:
            word = b""
        client.close()
        return word == END

    def _hear(self) -> bool:
        """True when the sandbox runs. When who took the listeners is gone, they are watched again."""
        assert self._borrower is not None
        try:
            word = self._borrower.recv(1)
        except OSError:
            word = b""
        if word == DONE:
            return True
        self._selector.unregister(self._borrower)
        self._borrower.close()
        self._borrower = None
        if self._resume is None:
            self._failed = time.monotonic()
        return False

    def _wake(self) -> None:
        self._look_away()
        words = [sys.executable, "-m", "engine.cli.main", "resume", "--json", self._name]
        print(f"somebody connects: {' '.join(words[2:])}", flush=True)
        self._resume = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, env={**os.environ, **self._variables}, cwd="/", start_new_session=True
        )

    def _look(self) -> None:
        """What became of a `resume`, and of those who connected while it failed."""
        if self._resume is not None and (code := self._resume.poll()) is not None:
            self._resume = None
            if code != 0:
                print(f"resume ended with {code}", flush=True)
            self._failed = time.monotonic()
        if self._failed is not None and self._borrower is None and time.monotonic() - self._failed > RETRY_S:
            self._failed = None
            self._send_away()
            self._watch()

    def _send_away(self) -> None:
        """Only those who are there now: who is sent away may connect again at once, and that is a new try."""
        waiting: list[socket.socket] = []
        for _, listener in self._listeners:
            with contextlib.suppress(OSError):
                while True:
                    waiting.append(listener.accept()[0])
        for client in waiting:
            client.close()


def main(name: str, directory: str) -> None:
    """Entry of the process: standard input is one line of JSON, and ends when the supervisor has."""
    forbid_core_dumps()  # the values of variables are in its memory
    told = json.loads(sys.stdin.buffer.readline(LONGEST))
    os.umask(0o077)
    where = Path(directory)
    listeners = [(int(port), socket.socket(fileno=number)) for port, number in told["listeners"]]
    for _, listener in listeners:
        listener.setblocking(False)
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(mode=0o700)
    try:
        with socket.socket(socket.AF_UNIX) as control:
            control.bind(str(where / "ports.sock"))
            control.listen(4)
            while select.select([sys.stdin], [], [])[0] and os.read(0, 1):
                pass  # two supervisors of one sandbox would be in each other's way
            Waker(name, Path(told["paused"]), listeners, control, told["variables"]).run()
    finally:
        shutil.rmtree(where, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
