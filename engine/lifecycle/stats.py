"""What running sandboxes use: processors, memory, disk and network, as their guests count it.

A guest can say about itself what it likes, so these are numbers for people and scripts, and nothing is decided by them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import EngineError
from vmm.channel.errors import GuestError
from vmm.processor_share import DEFAULT

if TYPE_CHECKING:
    from engine.state.layout import Layout

INTERVAL_S = 1.0  # between two readings of the counters, for a rate
ANSWER_S = 10.0
_KEPT = 64 * 1024  # bytes of a guest's answer
_MOST = 2**63
_SCRIPT = "cat /proc/uptime /proc/stat /proc/meminfo /proc/net/dev; df -kP /"
# The machine's own way out. Containers have interfaces of their own, and what they send goes through this one.
_OUTWARD = re.compile(r"^ *(?:eth|en)\w*: *(\d+)(?: +\d+){7} +(\d+)", re.MULTILINE)


class Counters(NamedTuple):
    """One reading. Times are in ticks of the guest since its start, of all processors together; sizes in bytes."""

    busy: int
    total: int
    processors: int
    memory: int
    memory_used: int
    disk: int
    disk_used: int
    received: int
    sent: int


class Usage(NamedTuple):
    """What one sandbox uses. `cpu` is in percent of one processor; sizes are in bytes, traffic since its start."""

    cpu: float
    processors: int
    memory: int
    memory_used: int
    disk: int
    disk_used: int
    received: int
    sent: int


class Measured(NamedTuple):
    """A sandbox and what it uses; None where its guest gave no answer, and `problem` says why.

    `cpu_weight` is its share of this host's processors, as its file has it.
    """

    name: str
    usage: Usage | None
    problem: str | None = None
    cpu_weight: int = DEFAULT


async def measure(layout: Layout, names: Sequence[str]) -> AsyncIterator[list[Measured]]:
    """What these sandboxes use, again and again, INTERVAL_S apart; without names, all that run.

    Raises EngineError where one of the names is that of no running sandbox. A guest that does not answer in ANSWER_S
    seconds is no error.
    """
    from engine.lifecycle.selection import choose_running

    for name in names:
        choose_running(layout, name)
    before: dict[str, Counters] = {}
    while True:
        controls = [(name, layout.instance(name).sockets.control) for name in names or _running(layout)]
        known = {name: before[name] for name, _ in controls if name in before}
        if set(known) != {name for name, _ in controls}:
            answers = await asyncio.gather(*(_ask(control) for _, control in controls))
            named = zip(controls, answers, strict=True)
            known = {name: answer for (name, _), answer in named if isinstance(answer, Counters)}
        await asyncio.sleep(INTERVAL_S)
        answers = await asyncio.gather(*(_ask(control) for _, control in controls))
        rows = []
        for (name, _), answer in zip(controls, answers, strict=True):
            if isinstance(answer, str):
                rows.append(Measured(name, None, answer, _weight(layout, name)))
            elif name in known:
                rows.append(Measured(name, usage_between(known[name], answer), None, _weight(layout, name)))
            else:
                rows.append(Measured(name, None, "answered only now", _weight(layout, name)))
        before = {
            name: answer for (name, _), answer in zip(controls, answers, strict=True) if not isinstance(answer, str)
        }
        yield rows


def _weight(layout: Layout, name: str) -> int:
    from engine.state.configuration import load_running

    running = load_running(layout, name)
    return int(running.configuration.sandbox.get("machine", {}).get("cpu_weight", DEFAULT)) if running else DEFAULT


def _running(layout: Layout) -> list[str]:
    from engine.state.instances import list_instances

    return [listed.name for listed in list_instances(layout, answers=lambda control: True) if _runs(listed.liveness)]


def _runs(liveness: str) -> bool:
    return liveness in ("running", "unresponsive")


async def _ask(control: Path) -> Counters | str:
    """One reading, or why there is none."""
    from vmm.channel.client import connect

    try:
        async with await connect(control) as client:
            done = await client.run(["sh", "-c", _SCRIPT], user="nobody", cwd="/", timeout_s=ANSWER_S, keep=_KEPT)
        return read_counters(done.stdout.decode(errors="replace"))
    except (GuestError, EngineError) as error:
        return error.brief


def usage_between(before: Counters, after: Counters) -> Usage:
    """What was used between two readings."""
    ticks = after.total - before.total
    share = min(1.0, max(0.0, (after.busy - before.busy) / ticks)) if ticks > 0 else 0.0
    return Usage(round(100 * share * after.processors, 1), *after[2:])


def read_counters(text: str) -> Counters:
    """The counters in what the script printed. Raises EngineError where something is missing."""
    processors = len(re.findall(r"^cpu\d+ ", text, re.MULTILINE))
    ticks = _numbers(r"^cpu +(.+)$", text)
    memory = {key: _numbers(rf"^{key}: +(\d+) kB$", text)[0] * 1024 for key in ("MemTotal", "MemAvailable")}
    size, used = _numbers(r"^\S+ +(\d+ +\d+) +\d+ +\d+% +/$", text)
    traffic = [(int(received[:19]), int(sent[:19])) for received, sent in _OUTWARD.findall(text)]
    if len(ticks) < 5 or not processors:
        raise EngineError("the guest's answer is not to be understood")
    idle = ticks[3] + ticks[4]  # nothing to do, and waiting for the disk
    total = sum(ticks[:8])  # what comes after is a part of these
    used_memory = memory["MemTotal"] - memory["MemAvailable"]
    received, sent = (sum(each) for each in zip(*traffic, strict=True)) if traffic else (0, 0)
    return Counters(
        total - idle, total, processors, memory["MemTotal"], used_memory, size * 1024, used * 1024, received, sent
    )


def _numbers(pattern: str, text: str) -> list[int]:
    if (match := re.search(pattern, text, re.MULTILINE)) is None:
        raise EngineError("the guest's answer is not to be understood")
    words = match[1].split()
    if not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
        raise EngineError("the guest's answer is not to be understood")
    return [min(int(word), _MOST) for word in words]
