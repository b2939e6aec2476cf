"""The private copies of a sandbox that starts: read while its machine is restored, and then sent into it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from engine.clones.base import TAR, make_base, send_base
from engine.state.instance_paths import InstancePaths
from engine.workspaces.clone_point import ClonePoint
from vmm.channel.archive import GUEST_UID
from vmm.channel.copy import send_archive
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel
from vmm.channel.small_tree import Entries, read_small, write_small

if TYPE_CHECKING:
    from engine.guest.guest import Guest
    from engine.supervisor.launch import Launch

PREPARE_S = 60.0
PREPARE = f'mkdir -p -- "$1" && chown {GUEST_UID}:{GUEST_UID} -- "$1"'


@dataclass(frozen=True)
class Copies:
    """What was made of all clones: what the user should know about them, and the entries of those that are small."""

    notes: list[str]
    small: list[Entries | None]


@contextlib.asynccontextmanager
async def copying_clones(clones: Sequence[ClonePoint], paths: InstancePaths) -> AsyncIterator[asyncio.Task[Copies]]:
    """The bases of all clones are being made, in the task; waits for its end at the end of the block."""

    def make() -> Copies:
        notes = [make_base(clone, paths.clone(index)) for index, clone in enumerate(clones)]
        return Copies(
            [f"{clone.source}: {note}" for clone, note in zip(clones, notes, strict=True) if note],
            [read_small(paths.clone(index) / TAR) for index in range(len(clones))],
        )

    task = asyncio.create_task(asyncio.to_thread(make))
    try:
        yield task
    finally:
        # The thread cannot be stopped, and it writes into a directory that will be removed.
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def putting_clones(
    launch: Launch, guest: Guest, copying: asyncio.Task[Copies], paths: InstancePaths
) -> AsyncIterator[asyncio.Task[None] | None]:
    """The clones are on their way into a guest that has only just begun to run; None where that would be too early.

    Beneath a live mount it is, and where files of the guest's identity belong among those of a clone.
    """
    own = [file[0] for file in (*launch.identity.files, *launch.identity.seeds)]
    own += [launch.identity.note[0]] if launch.identity.note is not None else []
    if launch.mounts or any(PurePosixPath(path).is_relative_to(to.target) for path in own for to in launch.clones):
        yield None
        return
    task = asyncio.create_task(put_clones(launch, guest, copying, paths))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put_clones(launch: Launch, guest: Guest, copying: asyncio.Task[Copies], paths: InstancePaths) -> None:
    """Put all clones at their places in the guest, in their order. Raises GuestError, and what `make_base` does."""
    copies = await asyncio.shield(copying)
    for index, (clone, small) in enumerate(zip(launch.clones, copies.small, strict=True)):
        if small is not None:
            await write_small(guest.channel, small, clone.target)
        else:
            await put_clone(guest.channel, clone, paths.clone(index))


async def put_clone(channel: GuestChannel, clone: ClonePoint, base: Path) -> None:
    """Unpack a base at its place in the guest, over what is there. Raises GuestError."""
    done = await channel.run(["sh", "-c", PREPARE, "sh", clone.target], timeout_s=PREPARE_S)
    if done.code != 0:
        words = done.stderr.decode(errors="replace").strip()
        raise GuestError(f"{clone.target} cannot be made in the guest", words or None)
    await send_archive(channel, lambda send: send_base(base, send), clone.target, clone.target)
