"""A disk of the host without room for the machine's own: QEMU halts the machine, and it goes on when there is room.

QEMU stops the guest's processors in the moment in which the host's disk takes no more (`werror=enospc`, its default),
before the guest hears of an error, and repeats the write when it is told to go on. No kernel tells of room that has
come, so it is looked for, and only while the machine stands.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from engine.report.sizes import size
from vmm.errors import VmmError
from vmm.machine import Machine

KEY = "disk"
ENOUGH = 64 << 20  # bytes free: with less it would stand again at once
LOOK_S = 2.0
HALTED = "io-error"  # the state of such a machine, in QEMU's words


async def keep_room(
    machine: Machine,
    disk: Path,
    busy: asyncio.Lock,
    begin: Callable[[str, str], object],
    end: Callable[[str], object],
) -> None:
    """Watch until cancelled. `begin` hears that the machine stands, and why; `end` that it goes on.

    `busy` is held while it is let go on: who has it needs the machine as it is.
    """
    with machine.qmp.hearing("BLOCK_IO_ERROR") as errors:
        while True:
            try:
                if not await _is_halted(machine):
                    await errors.get()
                    errors.clear()  # one for each write that did not fit
                    continue
                where = disk.parent
                text = f"the machine stands still until {size(ENOUGH)} are free in {where}: its disk has no room"
                begin(KEY, text)
                await _go_on(machine, where, busy)
                end(KEY)
            except (VmmError, OSError):  # QEMU answers late on a busy host: else the machine would stand for ever
                await asyncio.sleep(LOOK_S)


async def _go_on(machine: Machine, where: Path, busy: asyncio.Lock) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        found = os.statvfs(where)
        if found.f_bavail * found.f_frsize < ENOUGH:
            continue
        async with busy:
            if await _is_halted(machine):
                await machine.run()
            return


async def _is_halted(machine: Machine) -> bool:
    return bool((await machine.qmp.execute("query-status"))["status"] == HALTED)
