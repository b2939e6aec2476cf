"""Stopping a sandbox so that its disk can be booted again, and that cold boot: what its supervisor does for both.

A sandbox can be started again while its directory has a `stopped`. It gets that name before the guest is asked to end,
and loses it when the guest runs again: the disk is whole in between, since its file systems have journals. Whoever is
killed when: either the machine runs, or the sandbox is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.files import make_private
from engine.guest.guest import ColdStart, Guest
from engine.guest.layer import mount_layer
from engine.guest.services import FILE, start_services
from engine.state.instance_paths import InstancePaths
from engine.supervisor.adjuster import Adjuster
from engine.supervisor.disk_room import keep_room
from engine.supervisor.kept import Kept, in_thread, remove_kept, write_kept
from engine.supervisor.launch import Launch
from engine.supervisor.temporary import TemporaryRules
from vmm.channel.guest import GuestChannel
from vmm.channel.stream import LocalStream
from vmm.errors import VmmError
from vmm.snapshot import load_snapshot

SERVICES_S = 120.0  # for services to end: each has the time of its own `stop_grace_period`
POWER_OFF_S = 60.0  # for the guest to end after that; then its machine is switched off
DOCKER_S = 300.0
# Services in the order of their dependencies, then what else runs; each container has the time that it was made with.
STOP_CONTAINERS = f"[ ! -e {FILE} ] || docker compose -f {FILE} stop; docker ps -q | xargs -r docker stop"
FORCED = "the guest did not end by itself, and was switched off"


class Stopper:
    """Stops the sandbox of this process. `begun` is set from the moment when it will not run on, `stopped` at the end;
    `forced` says what did not go in good order."""

    def __init__(
        self, paths: InstancePaths, launch: Launch, guest: Guest, adjuster: Adjuster, temporary: TemporaryRules
    ) -> None:
        self.begun = asyncio.Event()
        self.stopped = asyncio.Event()
        self.forced: str | None = None
        self._launch = launch
        self._paths = paths
        self._guest = guest
        self._adjuster = adjuster
        self._temporary = temporary
        self._ending: asyncio.Task[None] | None = None

    async def handle(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `stop`: {forced: what did not go in good order, or None} when the machine has ended."""
        await self.stop()
        return {"forced": self.forced}

    async def stop(self) -> None:
        """Waits up to SERVICES_S and POWER_OFF_S. Raises EngineError; then, and when it is cancelled before the guest
        was asked to end, the sandbox runs on. Cancelled after that, it ends all the same."""
        if self._adjuster.busy.locked():
            raise EngineError("the sandbox is being changed or paused just now", hint="wait for that, and try again")
        async with self._adjuster.busy:
            new = self._paths.stopping
            try:
                remove_kept(new)
                make_private(new.directory)
                keep = self._guest, self._adjuster, self._temporary
                await in_thread(write_kept, new, self._launch, *keep)
                remove_kept(self._paths.stopped)
                new.directory.rename(self._paths.stopped.directory)
            except asyncio.CancelledError:
                remove_kept(new)
                raise
            except OSError as error:
                remove_kept(new)
                why = error.strerror or str(error)
                raise EngineError(f"the sandbox could not be stopped, and runs on: {why}") from error
            self.begun.set()
            self._ending = asyncio.create_task(self._end())
            await asyncio.shield(self._ending)

    async def _end(self) -> None:
        machine = self._guest.machine
        # We have `busy` and need a machine that runs: whoever else watches over its disk waits for us.
        going = keep_room(machine, self._paths.disk, asyncio.Lock(), lambda key, text: None, lambda key: None)
        watching = asyncio.create_task(going)
        try:
            with contextlib.suppress(VmmError):  # one that takes longer is ended with its machine
                await self._guest.channel.run(["sh", "-c", STOP_CONTAINERS], timeout_s=SERVICES_S)
            with contextlib.suppress(VmmError):  # the guest may end before it has answered
                await self._guest.channel.run(["systemctl", "poweroff"], timeout_s=POWER_OFF_S)
            try:
                await asyncio.wait_for(machine.wait(), POWER_OFF_S)
            except TimeoutError:
                self.forced = FORCED
                await machine.quit()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self.stopped.set()


class Starting:
    """The cold boot of a stopped sandbox."""

    def __init__(self, paths: InstancePaths) -> None:
        self._paths = paths
        self._kept = Kept((), None)

    def prepare(self, launch: Launch) -> ColdStart:
        """Raises EngineError for files that cannot be read, and VmmError where the snapshot below its disk is gone."""
        self._kept = Kept.read(self._paths.stopped)
        drives = load_snapshot(Path(launch.snapshot)).drives
        return ColdStart(drives, self._kept.deny_first, self._kept.authority, launch.addresses)

    async def bring_up(
        self, launch: Launch, channel: GuestChannel, mount: Callable[[], Any], step: Callable[[str], None], log: Any
    ) -> None:
        """What a snapshot would have had: its plugged disk, its mounts (`mount`), Docker, healthy services.

        Raises EngineError, with the logs of services that are not healthy, and VmmError.
        """
        for drive in load_snapshot(Path(launch.snapshot)).drives:
            await mount_layer(channel, drive.serial, log)
        if launch.services:
            step("waiting for Docker")
            await channel.call("wait_unit", timeout_s=DOCKER_S, unit="docker.service")
        if launch.services and launch.mounts:
            # Docker starts what is always to run by itself, over the empty places of the mounts.
            await channel.run(["sh", "-c", STOP_CONTAINERS], timeout_s=SERVICES_S)
        await mount()
        if launch.services:
            step(f"starting {', '.join(launch.services)}")
            await start_services(channel, launch.services, log)

    async def finish(self, temporary: TemporaryRules, warn: Callable[[str], object]) -> None:
        """What was allowed and denied for the time being holds again."""
        await self._kept.hold_again(temporary, warn)

    def done(self) -> None:
        """It runs, and goes on whatever becomes of who started it: it is stopped no more. Raises OSError."""
        remove_kept(self._paths.stopping)
        self._paths.stopped.directory.rename(self._paths.stopping.directory)
        remove_kept(self._paths.stopping)
