"""The real passt between the gateway and a client with the TCP of a real kernel: what a guest's programs get to see."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from foundation_world import shared_tools
from guest_clients import HOST, LAST_WORDS, MANY, client_hello, serving

from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from engine.gateway.server import start_gateway
from vmm.carrier import Carrier, start_passt

DOORS = [("10.0.2.100", 80), ("10.0.2.100", 443)]
LIMIT_S = 120.0
WIRE_GUEST = Path(__file__).parents[1] / "support" / "wire_guest.py"

pytestmark = pytest.mark.skipif(
    not os.access("/dev/net/tun", os.R_OK | os.W_OK) or shutil.which("ip") is None, reason="no /dev/net/tun, or no ip"
)


def run(main: Any) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(limited())


@contextlib.asynccontextmanager
async def wired(directory: Path, resolve: Any, connect: Any) -> AsyncIterator[Carrier]:
    """A gateway for HOST behind passt; the wire waits for its guest."""
    tools = await shared_tools()
    assert tools.passt is not None
    async with contextlib.AsyncExitStack() as stack:
        carrier = await stack.enter_async_context(start_passt(tools.passt, DOORS))
        journal = stack.enter_context(contextlib.closing(Journal(directory / "journal")))
        policy = Policy([Rule(HOST)])
        await stack.enter_async_context(
            start_gateway(policy, directory, journal, resolver=resolve, connect=connect, listeners=carrier.listeners)
        )
        yield carrier


async def visit(carrier: Carrier, script: str, *arguments: str, stdin: bytes = b"") -> str:
    """What a script prints that runs in the guest at the end of the wire."""
    assert carrier.stream is not None
    stream = carrier.stream.fileno()
    pipe = asyncio.subprocess.PIPE
    argv = [sys.executable, str(WIRE_GUEST), str(stream), sys.executable, "-c", script, *arguments]
    guest = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[stream])
    try:
        out, err = await guest.communicate(stdin)
    finally:
        if guest.returncode is None:
            guest.kill()
            await guest.wait()
    assert guest.returncode == 0, err.decode(errors="replace")
    return out.decode().strip()


def test_a_servers_end_is_seen_while_the_guest_can_still_speak(tmp_path: Path) -> None:
    """Through netcat it was not seen before the gateway's patience with a half-closed connection had ended."""
    ends: list[bytes] = []

    async def main() -> None:
        async with serving(ends) as (resolve, connect), wired(tmp_path, resolve, connect) as carrier:
            assert await visit(carrier, LAST_WORDS, stdin=client_hello()) == "b'bye' b''"
        assert ends == [b"!"]

    run(main())


def test_many_connections_are_answered_and_cost_no_process(tmp_path: Path) -> None:
    """200 at once, then 1,000 by 20 at a time."""
    counts: list[int] = []

    async def main() -> None:
        async with serving([]) as (resolve, connect):

            async def counted(address: str, port: int) -> Any:
                if len(counts) % 50 == 0:
                    [passt] = descendants(b"--no-map-gw")
                    counts.append(threads(passt))
                counts.append(1)
                return await connect(address, port)

            async with wired(tmp_path, resolve, counted) as carrier:
                assert await visit(carrier, MANY, "200", "1") == str({"hi": 200})
                assert await visit(carrier, MANY, "20", "50") == str({"hi": 1000})

    run(main())
    assert set(counts) == {1}


def descendants(word: bytes) -> list[int]:
    """Our children whose command line has `word`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and word in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def threads(pid: int) -> int:
    """How many threads and children it has."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return len(tasks) + sum(len((task / "children").read_text().split()) for task in tasks)
