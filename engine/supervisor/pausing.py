"""Pausing a sandbox, and going on: what its supervisor does for that.

A sandbox is paused while its directory has a `paused`, which gets that name when all of it is on the disk and the
machine stands still, and loses it in the moment before the machine runs again. Whoever is killed when: either the
machine runs, or it is paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.decoding import decode
from engine.errors import EngineError
from engine.files import make_private, read_json, replace_private
from engine.gateway.server import Gateway
from engine.guest.guest import GoingOn, Guest
from engine.guest.network import doors_of
from engine.state.instance_paths import InstancePaths, PausedPaths
from engine.state.trees import remove_tree
from engine.supervisor.adjuster import Adjuster
from engine.supervisor.launch import Launch
from engine.supervisor.lost_mounts import LostMounts
from engine.supervisor.temporary import SaidBefore, TemporaryRules
from vmm.channel.stream import LocalStream
from vmm.errors import VmmError
from vmm.spec import MountDevice
from vmm.suspension import suspend

if TYPE_CHECKING:
    from engine.gateway.authority import Authority


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
        self._launch = launch
        self._paths = paths
        self._guest = guest
        self._adjuster = adjuster
        self._temporary = temporary
        self._lost = lost

    async def handle(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `pause`: {} when the sandbox is paused and its processes are about to end."""
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
            await asyncio.to_thread(_remove, new)
            try:
                make_private(new.directory)
                self._write(new)
                machine, memory = self._guest.machine, self._guest.memory
                await suspend(machine, memory, self._launch.shape, new.directory, self._commit)
            except OSError as error:
                why = error.strerror or str(error)
                raise EngineError(f"the sandbox could not be paused, and runs on: {why}") from error
            finally:
                if not self.paused.is_set():
                    await asyncio.to_thread(_remove, new)

    def _write(self, new: PausedPaths) -> None:
        write_aside(new, replace(self._launch, **self._adjuster.changed), self._guest.gateway, self._temporary.said)

    def _commit(self) -> None:
        self._paths.pausing.directory.rename(self._paths.paused.directory)
        self.paused.set()


def write_aside(new: PausedPaths, launch: Launch, gateway: Gateway, said: list[SaidBefore]) -> None:
    """Write what a supervisor knows about its sandbox, without values of secrets. Raises OSError."""
    addresses = dict(gateway.addresses)  # the guest remembers the answers of its resolver
    launch = replace(launch.without_values(), addresses=addresses)
    launch = replace(launch, doors=tuple(doors_of(launch.policy(), addresses)))
    replace_private(new.launch, launch.to_json())
    replace_private(new.temporary, json.dumps([asdict(one) for one in said]))
    if (authority := gateway.authority) is not None:
        replace_private(new.authority, authority.to_text())


class Resumption:
    """Going on with what is paused in `paths`, or, with `fork`, as another one from what is there.

    `has_begun` says whether it is paused no more, `stays` whether the guest stays who it was; with `fork` neither.
    """

    def __init__(self, paths: InstancePaths, fork: PausedPaths | None = None) -> None:
        self.has_begun = False
        self.stays = fork is None
        self._aside = fork or paths.paused
        self._paths = paths
        self._said: list[SaidBefore] = []

    @property
    def directory(self) -> Path:
        """Where its machine is, as a snapshot."""
        return self._aside.directory

    def prepare(self, launch: Launch, served: Awaitable[object]) -> GoingOn:
        """Raises EngineError for files that cannot be read."""
        paused = self._aside
        try:
            self._said = [decode(SaidBefore, one) for one in read_json(paused.temporary)]
            authority = _authority(paused.authority.read_text()) if paused.authority.exists() else None
        except (OSError, ValueError) as error:
            raise EngineError("what was paused cannot be read", str(error)) from error
        mounts = tuple(
            MountDevice(f"mount{index}", index, self._paths.sockets.mount(index)) for index in range(len(launch.mounts))
        )
        return GoingOn(mounts, served, self._begin, authority, launch.addresses, self.stays)

    async def finish(self, temporary: TemporaryRules, warn: Callable[[str], object]) -> None:
        """What was allowed and denied for the time being holds again; what is of no use any more is removed."""
        try:
            await temporary.hold_again(self._said)
        except (EngineError, VmmError) as error:  # what was denied is denied; the machine runs, and exists once
            warn(f"what was allowed for the time being does not hold any more: {error.brief}")
        if self.stays:
            await asyncio.to_thread(_remove, self._paths.pausing)

    def _begin(self, gateway: Gateway) -> None:
        gateway.accept_temporary()
        gateway.set_temporary(rule for one in self._said if one.holds for rule in one.endpoint.rules)
        if not self.stays:
            return
        _remove(self._paths.pausing)
        self._paths.paused.directory.rename(self._paths.pausing.directory)
        self.has_begun = True


def _authority(text: str) -> Authority:
    from engine.gateway.authority import Authority

    return Authority.from_text(text)


def _remove(paths: PausedPaths) -> None:
    with contextlib.suppress(OSError):
        remove_tree(paths.directory)
