"""The real agent as a child process, on a socketpair in the place of the virtio-serial port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vmm.channel import GuestChannel, Relay
from vmm.channel.client import Client, connect
from vmm.channel.relay import Handler
from vmm.guest import agent as agent_module

DEADLINE_S = 20.0
CHANGED = """
import json, sys
sys.path.insert(0, sys.argv.pop(1))
import agent
for name, value in json.loads(sys.argv.pop(1)).items():
    assert hasattr(agent, name)
    setattr(agent, name, value)
agent.main()
"""


@dataclass
class AgentProcess:
    process: subprocess.Popen[bytes]
    channel: GuestChannel
    socket: socket.socket

    def peak_memory(self) -> int:
        """Bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@contextlib.contextmanager
def launch_agent(**changes: object) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """`changes` (NAME=value) are made to the agent's constants."""
    ours, theirs = socket.socketpair()
    program = [agent_module.__file__]
    if changes:
        program = ["-c", CHANGED, str(Path(agent_module.__file__).parent), json.dumps(changes)]
    argv = [sys.executable, "-E", *program, "--fd", str(theirs.fileno())]
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
async def start_agent(*, hello: bool = True, **changes: object) -> AsyncIterator[AgentProcess]:
    with launch_agent(**changes) as (process, ours):
        async with GuestChannel(*await asyncio.open_connection(sock=ours)) as channel:
            if hello:
                await channel.hello(DEADLINE_S)
            yield AgentProcess(process, channel, ours)


@contextlib.asynccontextmanager
async def start_relay(handlers: dict[str, Handler] | None = None) -> AsyncIterator[tuple[AgentProcess, Relay, Path]]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "control"
        async with start_agent() as agent, Relay(agent.channel, path, handlers) as relay:
            yield agent, relay, path


@contextlib.asynccontextmanager
async def start_client(handlers: dict[str, Handler] | None = None) -> AsyncIterator[tuple[AgentProcess, Client]]:
    async with start_relay(handlers) as (agent, _, path), await connect(path) as client:
        yield agent, client


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
def harness() -> Harness:
    return Harness()


class Harness:
    """What the tests of this directory share."""

    start_agent = staticmethod(start_agent)
    start_relay = staticmethod(start_relay)
    start_client = staticmethod(start_client)
    launch_agent = staticmethod(launch_agent)
    wait_until = staticmethod(wait_until)
    is_alive = staticmethod(is_alive)
    as_root = os.geteuid() == 0
