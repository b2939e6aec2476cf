"""Whoever has taken over a passt that serves a guest gets nothing: it is made to try, and each attempt is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asked_passt
import pytest
from asked_passt import TRIES
from asked_process import can_ask
from test_packets import carried, dialled, is_child, run

pytestmark = pytest.mark.skipif(not can_ask(), reason="this system, or its rules, do not let us ask")
# What a program of the user's that only waits can do at once: else the attempts would prove nothing.
WORK_ELSEWHERE = set(TRIES) - {"UDP to this host", "TCP to another host", "trace"}
T = 120.0


class Surroundings:
    """What it may not reach: the user's home, who listens on this host, and who has started it."""

    def __init__(self, base: Path, stack: contextlib.ExitStack) -> None:
        self.home = base / "user"
        self.home.mkdir()
        (self.home / "file").write_text("secret")
        place, abstract = Path(os.environ["SANDBOX_RUNTIME_DIR"], "s"), f"sandbox-{uuid.uuid4().hex}"
        self.listeners = [stack.enter_context(socket.socket(kind)) for kind in (socket.AF_INET, *[socket.AF_UNIX] * 2)]
        addresses: list[Any] = [("127.0.0.1", 0), str(place), f"\0{abstract}"]
        for listener, address in zip(self.listeners, addresses, strict=True):
            listener.bind(address)
            listener.listen()
        port = self.listeners[0].getsockname()[1]
        self.datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.datagrams.bind(("127.0.0.1", port))
        self.datagrams.setblocking(False)
        names = {"home": str(self.home), "unix": str(place), "abstract": abstract}
        self.told = json.dumps({**names, "port": port, "starter": os.getpid()})

    def ask(self, pid: int, word: str) -> str:
        """What came of the attempt. Waits up to T seconds."""
        argv = [sys.executable, asked_passt.__file__, str(pid), word, self.told]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=T)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def untouched(self) -> None:
        assert [path.name for path in self.home.iterdir()] == ["file"]
        assert (self.home / "file").read_text() == "secret"
        assert [dialled(listener) for listener in self.listeners] == [[], [], []]
        with pytest.raises(BlockingIOError):
            self.datagrams.recv(1)


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    with contextlib.ExitStack() as stack:
        yield Surroundings(tmp_path, stack)


@pytest.mark.parametrize("word", TRIES)
def test_whoever_takes_passt_over_gets_nothing(surroundings: Surroundings, word: str) -> None:
    """Each is refused, or is the end of it."""

    async def main() -> str:
        async with carried() as (guest, _):
            assert await guest.answers() == []
            [pid] = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if is_child(entry, b"--no-map-gw")]
            return await asyncio.to_thread(surroundings.ask, pid, word)

    assert run(main()) in ("refused", "ended")
    surroundings.untouched()


@pytest.mark.parametrize("word", sorted(WORK_ELSEWHERE))
def test_a_program_of_the_user_s_can_do_it(surroundings: Surroundings, word: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as waits:
        assert surroundings.ask(waits.pid, word) == "done"
        subprocess.run(["pkill", "-P", str(waits.pid)], check=False)  # the process that it was made to start
        waits.kill()
