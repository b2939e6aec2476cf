"""Pausing a sandbox, and going on: what its supervisor does for that.

A sandbox is paused while its directory has a `paused`, which gets that name when all of it is on the disk and the
machine stands still, and loses it in the moment before the machine runs again. Whoever is killed when: either the
machine runs, or it is paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.files import make_private
from engine.gateway.server import Gateway
from engine.guest.guest import GoingOn, Guest
from engine.state.instance_paths import InstancePaths, KeptPaths
from engine.supervisor.adjuster import Adjuster
from engine.supervisor.kept import Kept, in_thread, remove_kept, write_kept
from engine.supervisor.launch import Launch
from engine.supervisor.lost_mounts import LostMounts
from engine.supervisor.temporary import TemporaryRules
from vmm.channel.stream import LocalStream
from vmm.spec import MountDevice
from vmm.suspension import suspend


class Pauser:
    """Pauses the sandbox of this process. `paused` is set when the machine stands still for good."""

    def __init__(
        self,
        paths: InstancePaths,
        launch: Launch,
        guest: Guest,
        adjuster: Adjuster,
        temporary: TemporaryRules,
        lost: LostMounts | None = None,
    ) -> None:
        self.paused = asyncio.Event()
        self.on_paused: Callable[[], object] = lambda: None  # called in the moment from which on it is
        self.release_ports = False  # whether nobody is to listen on its published ports meanwhile
        self._launch = launch
        self._paths = paths
        self._guest = guest
        self._adjuster = adjuster
        self._temporary = temporary
        self._lost = lost

    async def handle(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `pause`: {} when the sandbox is paused and its processes are about to end.

        With `release_ports`, nobody listens on its published ports then.
        """
        self.release_ports = request.get("release_ports") is True
        await self.pause()
        return {}

    async def pause(self) -> None:
        """Raises EngineError and VmmError; then, and when it is cancelled before the end, the sandbox runs on."""
        if self._adjuster.busy.locked():
            raise EngineError("the sandbox is being changed or paused just now", hint="wait for that, and try again")
        if self._lost is not None:
            self._lost.check_whole()
        async with self._adjuster.busy:
            new = self._paths.pausing
            await asyncio.to_thread(remove_kept, new)
            try:
                make_private(new.directory)
                keep = self._guest, self._adjuster, self._temporary
                await in_thread(write_kept, new, self._launch, *keep)
                guest, shape = self._guest, self._launch.shape
                await suspend(guest.machine, guest.memory, guest.template, shape, new.directory, self._commit)
            except OSError as error:
                why = error.strerror or str(error)
                raise EngineError(f"the sandbox could not be paused, and runs on: {why}") from error
            finally:
                if not self.paused.is_set():
                    await asyncio.to_thread(remove_kept, new)

    def _commit(self) -> None:
        self._paths.pausing.directory.rename(self._paths.paused.directory)
        self.paused.set()
        self.on_paused()


class Resumption:
    """Going on with what is paused in `paths`, or, with `fork`, as another one from what is there.

    `has_begun` says whether it is paused no more, `stays` whether the guest stays who it was; with `fork` neither.
    """

    def __init__(self, paths: InstancePaths, fork: KeptPaths | None = None) -> None:
        self.has_begun = False
        self.stays = fork is None
        self._aside = fork or paths.paused
        self._paths = paths
        self._kept = Kept((), None)

    @property
    def directory(self) -> Path:
        """Where its machine is, as a snapshot."""
        return self._aside.directory

    def prepare(self, launch: Launch, served: Awaitable[object]) -> GoingOn:
        """Raises EngineError for files that cannot be read."""
        self._kept = Kept.read(self._aside)
        mounts = tuple(
            MountDevice(f"mount{index}", index, self._paths.sockets.mount(index)) for index in range(len(launch.mounts))
        )
        return GoingOn(mounts, served, self._begin, self._kept.authority, launch.addresses, self.stays)

    async def finish(self, temporary: TemporaryRules, warn: Callable[[str], object]) -> None:
        """What was allowed and denied for the time being holds again; what is of no use any more is removed."""
        await self._kept.hold_again(temporary, warn)
        if self.stays:
            await asyncio.to_thread(remove_kept, self._paths.pausing)

    def _begin(self, gateway: Gateway) -> None:
        self._kept.deny_first(gateway)
        if not self.stays:
            return
        remove_kept(self._paths.pausing)
        self._paths.paused.directory.rename(self._paths.pausing.directory)
        self.has_begun = True
