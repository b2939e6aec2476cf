"""Forking a sandbox: what its supervisor does so that others can begin where it is now. It stands still meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from engine.errors import EngineError
from engine.guest.guest import Guest
from engine.state.instance_paths import ForkPaths, InstancePaths
from engine.state.layout import Layout
from engine.supervisor.adjuster import Adjuster
from engine.supervisor.kept import write_kept
from engine.supervisor.launch import Launch
from engine.supervisor.temporary import TemporaryRules
from vmm.channel.freezing import frozen
from vmm.channel.stream import LocalStream
from vmm.disk import copy_disk, write_overlay
from vmm.forking import LAYERS_MOST, Forked, fork
from vmm.jail import backing_files


class Forker:
    """Forks the sandbox of this process."""

    def __init__(
        self, layout: Layout, launch: Launch, guest: Guest, adjuster: Adjuster, temporary: TemporaryRules
    ) -> None:
        self._layout = layout
        self._launch = launch
        self._guest = guest
        self._adjuster = adjuster
        self._temporary = temporary

    async def handle(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `fork`: {fork: the name of a directory that is held} in; {stood_still_s, all_stood_still:
        whether all programs of the guest did} when it is written."""
        forked = await self.fork(self._layout.fork(str(request.get("fork"))))
        return {"stood_still_s": forked.stood_still_s, "all_stood_still": forked.all_stood_still}

    async def fork(self, new: ForkPaths) -> Forked:
        """Write what the sandbox is now into the directory. It runs on, or has ended: see `vmm.forking.fork`.

        Raises EngineError and VmmError.
        """
        paths = self._layout.instance(self._launch.name)
        self._check(paths)
        if self._adjuster.busy.locked():
            raise EngineError("the sandbox is being changed or paused just now", hint="wait for that, and try again")
        async with self._adjuster.busy:
            try:
                return await self._write(paths, new)
            except OSError as error:
                why = error.strerror or str(error)
                raise EngineError(f"the sandbox could not be forked, and runs on: {why}") from error
            finally:
                with contextlib.suppress(OSError):
                    _tidy(paths)

    def _check(self, paths: InstancePaths) -> None:
        if self._launch.mounts or self._guest.memory is not None:
            raise EngineError(
                "a sandbox with a live mount cannot be forked: two machines would think that they alone write there",
                hint="`mode: clone` on its mounts gives it a copy of its own",
            )
        network = self._guest.machine.spec.network
        if network is not None and network.stream is None:
            raise EngineError(
                "a sandbox on QEMU's user network cannot be forked",
                hint="passt carries the packets of one that can be: see `sandbox doctor`",
            )
        if len(backing_files(paths.disk)) >= LAYERS_MOST:
            raise EngineError(
                f"{self._launch.name} was forked too often: its disk lies in {LAYERS_MOST} layers",
                hint=f"`sandbox up --recreate -n {self._launch.name}` makes a new one",
            )

    async def _write(self, paths: InstancePaths, new: ForkPaths) -> Forked:
        launch, keep = self._launch, (self._guest, self._adjuster, self._temporary)
        await asyncio.to_thread(write_kept, new.aside, launch, *keep)
        _tidy(paths)
        # From here on the disk up to now is a layer that nobody writes into. Its name is relative, here and in a copy.
        layer = paths.free_layer()
        os.link(paths.disk, layer)
        write_overlay(paths.next_disk, layer, "qcow2", relative=True)
        layers = [layer, *(path for path in backing_files(layer) if path.parent == layer.parent)]
        forked = await fork(
            self._guest.machine,
            self._guest.template,
            launch.shape,
            new.directory,
            paths.next_disk,
            lambda: paths.next_disk.replace(paths.disk),
            needed=sum(path.stat().st_blocks * 512 for path in layers),
            still=frozen(self._guest.channel),
        )
        # Those that begin there get copies: into its own layers this sandbox's QEMU could still write, if its guest had
        # taken it over.
        for path, target in zip(layers, [new.disk, *(new.directory / path.name for path in layers[1:])], strict=True):
            await asyncio.to_thread(copy_disk, path, target)
        return forked


def _tidy(paths: InstancePaths) -> None:
    """Remove what an attempt that failed has left. Raises OSError."""
    paths.next_disk.unlink(missing_ok=True)
    for layer in paths.layers():
        if layer.samefile(paths.disk):
            layer.unlink()
