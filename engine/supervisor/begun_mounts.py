"""Whether QEMU has begun with the device of each live mount, and another try where it could not.

It begins when the guest's kernel finds the device, or when a machine goes on that had it. Where it cannot, as without
descriptors, it says so to nobody: the kernel mounts the device all the same, and whoever looks into the mount waits for
ever. A machine that stands still for a moment and goes on is another try.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from engine.errors import EngineError
from engine.guest.guest import hello_s
from engine.workspaces.mount_point import MountPoint
from vmm.errors import VmmError
from vmm.machine import Machine

TRIES = 3
Again = Callable[[], Awaitable[object]]


class BegunMounts:
    """Those of one sandbox."""

    def __init__(self, mounts: Sequence[MountPoint]) -> None:
        self._mounts = mounts
        self._begun = [asyncio.Event() for _ in mounts]

    def begin(self, index: int) -> None:
        """QEMU has begun with the device of the mount, or nobody serves that any more: there is nothing to wait for."""
        self._begun[index].set()

    async def until(self, again: Again, index: int) -> None:
        """Wait until it has, and try `again` where it has not for a while. Raises EngineError after TRIES, VmmError."""
        for _ in range(TRIES):
            if await self._soon(index):
                return
            await again()
        if not await self._soon(index):
            raise EngineError(
                f"QEMU did not begin with the mount {self._mounts[index].target}",
                hint="it may have too few descriptors (`ulimit -n`) or too little memory: try again",
            )

    async def keep_trying(
        self, again: Again, begin: Callable[[str, str], object], end: Callable[[str], object]
    ) -> None:
        """The same for a machine that went on where it was, which is not given up for that: until all have begun.

        `begin` hears which mount is in trouble, by a key of our own, and `end` that it is so no more.
        """
        for index, mount in enumerate(self._mounts):
            key = f"{mount.target} has not begun"
            while not await self._soon(index):
                begin(key, f"{mount.target} does not answer: QEMU has not begun with it, and tries again")
                with contextlib.suppress(VmmError):  # the machine ends, or answers late
                    await again()
            end(key)

    async def _soon(self, index: int) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._begun[index].wait(), hello_s() / 4)
        return self._begun[index].is_set()


async def try_again(machine: Machine, busy: asyncio.Lock) -> None:
    """Let the machine stand still and go on, when nobody needs it as it is. Raises VmmError."""
    async with busy:
        await machine.stand_still()
        await machine.run()
