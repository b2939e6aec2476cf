"""How long a command takes in a guest over a connection that is open, as an editor's or a program's is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from engine.state.awake import find_awake
from vmm.channel.client import connect

WAIT_S = 60.0
BEFORE = 3  # runs that are not counted


def seconds_of_execs(env: Mapping[str, str], name: str, user: str, runs: int) -> list[float]:
    """Of each of `runs` times `true` in the sandbox `name`, which runs."""
    found = find_awake(env, name)
    assert found is not None, f"{name} does not run"
    return asyncio.run(_seconds(Path(found.control), user, runs))


async def _seconds(control: Path, user: str, runs: int) -> list[float]:
    channel = await connect(control)
    try:
        seconds = []
        for _ in range(BEFORE + runs):
            began = time.perf_counter()
            done = await channel.run(["true"], user=user, timeout_s=WAIT_S)
            seconds.append(time.perf_counter() - began)
            assert done.code == 0, done
        return seconds[BEFORE:]
    finally:
        await channel.close()
