"""The real guestd as a child process, on a socketpair in the place of the virtio-serial port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vmm.channel.client import connect
from vmm.channel.guest import GuestChannel
from vmm.channel.relay import Handler, Relay
from vmm.guest import guestd as guestd_package

DEADLINE_S = 20.0
GUESTD = Path(guestd_package.__file__).parent
CHANGED = """
import json, sys
from vmm.guest.guestd import __main__, burial, session
for name, value in json.loads(sys.argv.pop(1)).items():
    module = burial if hasattr(burial, name) else session
    assert hasattr(module, name)
    setattr(module, name, value)
__main__.main()
"""


@dataclass
class GuestdProcess:
    process: subprocess.Popen[bytes]
    channel: GuestChannel
    socket: socket.socket

    def peak_memory(self) -> int:
        """Bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@contextlib.contextmanager
def launch_guestd(**changes: object) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """As the guest starts it. `changes` (NAME=value) are made to the constants of its burial and sessions."""
    ours, theirs = socket.socketpair()
    program = ["-E", "-c", CHANGED, json.dumps(changes)] if changes else ["-I", "-S", "-B", str(GUESTD)]
    argv = [sys.executable, *program, "--fd", str(theirs.fileno())]
    with subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL) as process:
        theirs.close()
        try:
            yield process, ours
        finally:
            ours.close()
            try:
                process.wait(DEADLINE_S)  # it ends by itself when its peer is gone
            finally:
                process.kill()


@contextlib.asynccontextmanager
async def start_guestd(*, hello: bool = True, **changes: object) -> AsyncIterator[GuestdProcess]:
    with launch_guestd(**changes) as (process, ours):
        async with GuestChannel(*await asyncio.open_connection(sock=ours)) as channel:
            if hello:
                await channel.hello(DEADLINE_S)
            yield GuestdProcess(process, channel, ours)


@contextlib.asynccontextmanager
async def start_relay(
    handlers: dict[str, Handler] | None = None, **changes: object
) -> AsyncIterator[tuple[GuestdProcess, Relay, Path]]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "control"
        async with start_guestd(**changes) as guestd, Relay(guestd.channel, path, handlers) as relay:
            yield guestd, relay, path


@contextlib.asynccontextmanager
async def start_client(handlers: dict[str, Handler] | None = None) -> AsyncIterator[tuple[GuestdProcess, GuestChannel]]:
    async with start_relay(handlers) as (guestd, _, path), await connect(path) as client:
        yield guestd, client


async def wait_until(check: Callable[[], bool]) -> None:
    """For what sends no event, such as the end of a process that is not our child."""
    async with asyncio.timeout(DEADLINE_S):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.fixture
def relayed(request: pytest.FixtureRequest) -> Iterator[tuple[Path, int]]:
    """The socket of a relay that runs in a thread of its own, and the process of guestd. Its parameter: changes."""
    started: dict[str, Any] = {}
    ready = threading.Event()

    async def serve() -> None:
        async with start_relay(**getattr(request, "param", {})) as (guestd, _, path):
            started.update(path=path, guestd=guestd.process.pid, stop=asyncio.Event(), loop=asyncio.get_running_loop())
            ready.set()
            await started["stop"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(DEADLINE_S)
        yield started["path"], started["guestd"]
    finally:
        os.kill(started["guestd"], signal.SIGCONT)
        started["loop"].call_soon_threadsafe(started["stop"].set)
        thread.join()


@pytest.fixture
def control(relayed: tuple[Path, int]) -> Path:
    return relayed[0]


@pytest.fixture
def harness() -> Harness:
    return Harness()


class Harness:
    """What the tests of this directory share."""

    start_guestd = staticmethod(start_guestd)
    start_relay = staticmethod(start_relay)
    start_client = staticmethod(start_client)
    launch_guestd = staticmethod(launch_guestd)
    wait_until = staticmethod(wait_until)
    is_alive = staticmethod(is_alive)
    as_root = os.geteuid() == 0
