"""When nobody has used a sandbox for a while: what counts as use, and waiting for its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from vmm.errors import VmmError

LOOKS = 10  # in one idle time, but
SHORTEST_S, LONGEST_S = 1.0, 60.0  # between two looks
BUSY = 0.25  # of one processor: an emulated guest that only keeps its services takes a few percent


@dataclass
class Use:
    """What tells that a sandbox is in use. Each part is asked anew at every look.

    `streams` counts commands that run through the control socket, `connections` those of the guest through the gateway,
    `usernet` gives QEMU's list of connections, among them those to published ports; `pid` is QEMU's.
    """

    streams: Callable[[], int]
    connections: Callable[[], int]
    usernet: Callable[[], Awaitable[str]]
    pid: int

    async def why(self, processor_s: float, period_s: float) -> str | None:
        """What is going on, None when nothing is. `processor_s` is what QEMU used in the last `period_s` seconds."""
        if self.streams():
            return "a command runs"
        if self.connections():
            return "a connection to the network is open"
        with contextlib.suppress(VmmError):
            if published_connections(await self.usernet()):
                return "a published port is in use"
        if period_s > 0 and processor_s / period_s > BUSY:
            return "the guest computes"
        return None


async def wait_idle(
    use: Use, idle_s: Callable[[], float | None], *, clock: Callable[[], float] = time.monotonic
) -> float:
    """Return when nothing has gone on for as long as `idle_s` says, and how many seconds that were.

    It is asked at every look, since a live `up` may change it; None means never.
    """
    last_use = before = clock()
    processor = processor_seconds(use.pid)
    while (limit := idle_s()) is None or clock() - last_use < limit:
        await asyncio.sleep(LONGEST_S if limit is None else min(max(limit / LOOKS, SHORTEST_S), LONGEST_S))
        now, used = clock(), processor_seconds(use.pid)
        if limit is None or await use.why(used - processor, now - before) is not None:
            last_use = now
        before, processor = now, used
    return limit


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far, 0 where this cannot be known (proc_pid_stat(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def published_connections(usernet: str) -> int:
    """How many connections to published ports QEMU's `info usernet` lists.

    Its lines are protocol[state], descriptor, source and destination address and port: those of the guest's own
    connections end at one of the gateway's addresses, those from the host end at the guest's.
    """
    count = 0
    for line in usernet.splitlines():
        fields = line.split()
        if len(fields) >= 6 and fields[0].startswith("TCP[") and fields[0] != "TCP[HOST_FORWARD]":
            count += fields[0] == "TCP[ESTABLISHED]" and fields[2].startswith("127.")
    return count


def spell(seconds: float) -> str:
    """A time without use as a Sandboxfile writes times: `90s` is `1m30s`."""
    left, parts = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"
