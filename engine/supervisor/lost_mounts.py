"""Mounts whose file server has ended while the sandbox runs: the guest gets errors there, instead of waiting for ever.

Nobody would answer what the guest asks of such a device, and each process that touches the mount would stand in the
guest's kernel. So the kernel is told to give up what was asked already (ECONNABORTED): it would wait for those answers
before it lets a device go. Then the device is unplugged, and whoever asks more hears ENOTCONN.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from engine.errors import EngineError
from engine.workspaces.mount_point import MountPoint
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.errors import VmmError
from vmm.machine import Machine

# A FUSE connection is called by the minor number of its file system (Documentation/filesystems/fuse.rst, "Control
# filesystem"). The mount itself is not touched: whoever does that waits.
ABORT = """
while read -r _ _ device _ where _; do
    if [ "$where" = "$1" ]; then echo 1 > "/sys/fs/fuse/connections/${device#*:}/abort"; fi
done < /proc/self/mountinfo
"""
ABORT_S = 30.0


class LostMounts:
    """Those of one sandbox. `warn` hears of each once, in the user's words, and `log` why."""

    def __init__(
        self, mounts: Sequence[MountPoint], warn: Callable[[str], object], log: Callable[[str], object]
    ) -> None:
        self._mounts = mounts
        self._warn = warn
        self._log = log
        self._words: dict[int, str] = {}
        self._more = asyncio.Event()

    def lose(self, index: int, words: str) -> None:
        """The file server of the mount has ended with these last words."""
        mount = self._mounts[index]
        self._words[index] = words
        self._log(f"the file server of {mount.source} has ended: {words}")
        self._warn(
            f"the file server of {mount.target} has ended, and with it the mount: `sandbox up --recreate` mends it"
        )
        self._more.set()

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

    async def unplug(self, machine: Machine, channel: GuestChannel) -> None:
        """Free the guest of those that are lost, and of those that will be. Ends only when it is cancelled."""
        gone = set[int]()
        while True:
            for index in self._words.keys() - gone:
                gone.add(index)
                await self._give_up(channel, self._mounts[index].target)
                with contextlib.suppress(VmmError):  # QEMU is gone, too
                    await machine.unplug_mount(index)
            self._more.clear()
            await self._more.wait()

    async def _give_up(self, channel: GuestChannel, target: str) -> None:
        """Have the guest's kernel end all that waits for the mount at `target`; best effort."""
        try:
            done = await channel.run(["sh", "-c", ABORT, "sh", as_in_mountinfo(target)], timeout_s=ABORT_S)
            if done.code != 0:
                self._log(f"what waits for {target} was not ended: {done.stderr.decode(errors='replace').strip()}")
        except GuestError as error:
            self._log(f"what waits for {target} was not ended: {error}")


def as_in_mountinfo(path: str) -> str:
    """A path as /proc/PID/mountinfo writes it (proc_pid_mountinfo(5))."""
    return "".join(f"\\{ord(each):03o}" if each in " \t\n\\" else each for each in path)
