"""The listeners of a paused sandbox's published ports: given to a waker, and taken from it by who goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from engine.supervisor.waker import DONE, END, MOST_LISTENERS, TAKE
from vmm.private import private

ANSWER_S = 2.0
LISTENS_S = 30.0  # for a waker to be there; a loaded host takes long to start a Python
LOOK_S = 0.02
LONGEST = 1 << 14
SOCKET = "ports.sock"

Listeners = list[tuple[int, socket.socket]]


def start_waker(
    name: str, directory: Path, paused: Path, listeners: Listeners, variables: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a waker with these listeners. It watches them once its standard input has ended, as with this process.

    `variables` go through a pipe, and are in no file. Raises OSError.
    """
    numbers = [listener.fileno() for _, listener in listeners]
    told = {
        "listeners": [[port, listener.fileno()] for port, listener in listeners],
        "paused": str(paused),
        "variables": dict(variables),
    }
    with open(log, "ab", opener=private) as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.supervisor.waker", name, str(directory)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            env=dict(os.environ),
            pass_fds=numbers,
            start_new_session=True,
        )
    assert process.stdin is not None
    process.stdin.write(json.dumps(told).encode() + b"\n")
    process.stdin.flush()
    return process  # its standard input ends with this process, and not before


async def wait_for_waker(process: subprocess.Popen[bytes], directory: Path) -> None:
    """Wait until the waker in `directory` can be asked for its listeners, up to LISTENS_S.

    Raises OSError where its process has ended, or takes longer.
    """
    deadline = asyncio.get_running_loop().time() + LISTENS_S
    while process.poll() is None and asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as waker:
            waker.setblocking(False)
            waker.connect(str(directory / SOCKET))  # and it finds that nobody asks
            return
        await asyncio.sleep(LOOK_S)
    raise OSError("what was started for that does not answer")


class TakenPorts:
    """The listeners that a waker has handed out, if there is one. They are its own again unless `done` is called."""

    def __init__(self, waker: socket.socket | None, listeners: Listeners) -> None:
        self._waker = waker
        self.listeners = listeners

    @classmethod
    def take(cls, directory: Path) -> Self:
        """Ask the waker in `directory`, which answers within ANSWER_S; none is no error."""
        waker = socket.socket(socket.AF_UNIX)
        waker.settimeout(ANSWER_S)
        try:
            waker.connect(str(directory / SOCKET))
            waker.sendall(TAKE)
            text, numbers, _, _ = socket.recv_fds(waker, LONGEST, MOST_LISTENERS, socket.MSG_CMSG_CLOEXEC)
            ports = json.loads(text)
        except (OSError, ValueError):
            waker.close()
            return cls(None, [])
        return cls(waker, [(port, socket.socket(fileno=number)) for port, number in zip(ports, numbers, strict=False)])

    def done(self) -> None:
        """The sandbox runs: the waker ends."""
        if self._waker is not None:
            with contextlib.suppress(OSError):
                self._waker.sendall(DONE)
        self.close()

    def close(self) -> None:
        """Give them back. Those that somebody listens on stay open here."""
        if self._waker is not None:
            self._waker.close()
            self._waker = None


def end_waker(directory: Path) -> None:
    """End the waker in `directory`, if there is one, and with it its listeners. Waits up to ANSWER_S."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as waker:
        waker.settimeout(ANSWER_S)
        waker.connect(str(directory / SOCKET))
        waker.sendall(END)
        waker.recv(1)  # the end of the stream, when it has ended
