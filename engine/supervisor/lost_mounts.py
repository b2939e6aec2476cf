"""Mounts whose file server has ended while the sandbox runs: the guest gets errors there, instead of waiting for ever.

What it had asked is answered by the server's stand-in (vmm/fileserver/stand_in.py) before we hear of the end. Then the
device is unplugged, and the guest's kernel itself says ENOTCONN to whoever asks more. Where the stand-in is gone as
well, those who have asked wait until the machine ends, and the kernel does not let the device go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from engine.errors import EngineError
from engine.supervisor.begun_mounts import BegunMounts
from engine.workspaces.mount_point import MountPoint
from vmm.errors import VmmError
from vmm.machine import Machine


class LostMounts:
    """Those of one sandbox. `warn` hears of each once, in the user's words, and `log` why."""

    def __init__(
        self, mounts: Sequence[MountPoint], warn: Callable[[str], object], log: Callable[[str], object]
    ) -> None:
        self._mounts = mounts
        self._warn = warn
        self._log = log
        self._words: dict[int, str] = {}
        self.begun = BegunMounts(mounts)
        self._more = asyncio.Event()
        self._first = asyncio.Event()

    def lose(self, index: int, words: str) -> None:
        """The file server of the mount has ended with these last words."""
        mount = self._mounts[index]
        self._words[index] = words
        self._log(f"the file server of {mount.source} has ended: {words}")
        self._warn(
            f"the file server of {mount.target} has ended, and with it the mount: `sandbox up --recreate` mends it"
        )
        self.begun.begin(index)  # nobody waits for that any more
        self._more.set()
        self._first.set()

    async def unless_lost(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what needs all mounts. As soon as one is lost, cancel it and raise EngineError.

        A guest that mounts what nobody serves yet has nobody to ask: without this it would be waited for.
        """
        working, losing = asyncio.create_task(work), asyncio.create_task(self._first.wait())
        try:
            await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
            self.check_started()
            await working
            self.check_started()
        finally:
            for task in (working, losing):
                task.cancel()
            await asyncio.gather(working, losing, return_exceptions=True)

    def check_started(self) -> None:
        """Raises EngineError when one was lost already: a sandbox that only begins is not worth having then."""
        for index, words in self._words.items():
            raise EngineError(f"the file server of {self._mounts[index].source} has ended", words or None)

    def check_whole(self) -> None:
        """Raises EngineError when one was lost: what is written of such a machine could not be read again."""
        for index in self._words:
            raise EngineError(
                f"{self._mounts[index].target} has lost its file server, so the sandbox cannot be paused",
                hint="`sandbox up --recreate` mends the mount, in a new machine",
            )

    async def unplug(self, machine: Machine) -> None:
        """Unplug the devices of those that are lost, and of those that will be. Ends only when it is cancelled."""
        gone = set[int]()
        while True:
            for index in self._words.keys() - gone:
                gone.add(index)
                with contextlib.suppress(VmmError):  # QEMU is gone, too
                    await machine.unplug_mount(index)
            self._more.clear()
            await self._more.wait()
