"""When nobody has used a sandbox for a while: what counts as use, and waiting for its end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

LOOKS = 10  # in one idle time, but
SHORTEST_S, LONGEST_S = 1.0, 60.0  # between two looks
BUSY = 0.25  # of one processor: an emulated guest that only keeps its services takes a few percent


class Idle(NamedTuple):
    """What the file says of a sandbox without use: after how many seconds (None: never) it is stopped or paused."""

    after: float | None = None
    do: str = "stop"

    @classmethod
    def of(cls, value: Any) -> Idle:
        """`machine.idle` as plain data, also as older versions wrote it: the seconds alone."""
        return cls(value["after"], value["do"]) if isinstance(value, Mapping) else cls(value)


@dataclass
class Use:
    """What tells that a sandbox is in use. Each part is asked anew at every look.

    `streams` counts commands that run through the control socket, `connections` those of the guest through the gateway,
    `published` those from the host to published ports; `pid` is QEMU's.
    """

    streams: Callable[[], int]
    connections: Callable[[], int]
    published: Callable[[], int]
    pid: int

    def why(self, processor_s: float, period_s: float) -> str | None:
        """What is going on, None when nothing is. `processor_s` is what QEMU used in the last `period_s` seconds."""
        if self.streams():
            return "a command runs"
        if self.connections():
            return "a connection to the network is open"
        if self.published():
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
        if limit is None or use.why(used - processor, now - before) is not None:
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


def spell(seconds: float) -> str:
    """A time without use as a Sandboxfile writes times: `90s` is `1m30s`."""
    left, parts = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"
