"""The private copies of a sandbox that starts: read while its machine is restored, and then sent into it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from engine.clones.base import make_base, send_base
from engine.state.instance_paths import InstancePaths
from engine.workspaces.clone_point import ClonePoint
from vmm.channel.archive import GUEST_UID
from vmm.channel.copy import send_archive
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel

PREPARE_S = 60.0
PREPARE = f'mkdir -p -- "$1" && chown {GUEST_UID}:{GUEST_UID} -- "$1"'


@contextlib.asynccontextmanager
async def copying_clones(clones: Sequence[ClonePoint], paths: InstancePaths) -> AsyncIterator[asyncio.Task[list[str]]]:
    """The bases of all clones are being made, in the task; waits for its end at the end of the block.

    The task returns what the user should know about the copies.
    """

    def make() -> list[str]:
        notes = [make_base(clone, paths.clone(index)) for index, clone in enumerate(clones)]
        return [f"{clone.source}: {note}" for clone, note in zip(clones, notes, strict=True) if note]

    task = asyncio.create_task(asyncio.to_thread(make))
    try:
        yield task
    finally:
        # The thread cannot be stopped, and it writes into a directory that will be removed.
        await asyncio.gather(task, return_exceptions=True)


async def put_clone(channel: GuestChannel, clone: ClonePoint, base: Path) -> None:
    """Unpack a base at its place in the guest, over what is there. Raises GuestError."""
    done = await channel.run(["sh", "-c", PREPARE, "sh", clone.target], timeout_s=PREPARE_S)
    if done.code != 0:
        words = done.stderr.decode(errors="replace").strip()
        raise GuestError(f"{clone.target} cannot be made in the guest", words or None)
    await send_archive(channel, lambda send: send_base(base, send), clone.target, clone.target)
