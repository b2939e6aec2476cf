"""A directory of the host as a virtiofs server: one virtiofsd per mount."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmm.errors import VmmError
from vmm.last_words import LastWords
from vmm.masking import Mask, MaskError, spawn_masked
from vmm.process import spawn
from vmm.tools import Tools

GUEST_USER = 1000  # the guest's `agent`
ALL_IDS = 2**32 - 1


@dataclass(frozen=True)
class SharedDirectory:
    """One mount: `source`, a real path of the host, appears under `tag`; `read_only` is enforced on the host's side.

    `masks` are paths in it that the guest cannot change though it may write to the rest.
    """

    source: Path
    tag: str
    read_only: bool = False
    masks: tuple[Mask, ...] = ()


def virtiofsd_arguments(shared: SharedDirectory, seen_at: Path, listener: int, *, uid: int, gid: int) -> list[str]:
    """virtiofsd's arguments; it sees the directory at `seen_at`.

    Everything the guest makes belongs to `uid`, and what `uid` owns is the agent's inside.
    """
    arguments = ["--shared-dir", str(seen_at), "--fd", str(listener), "--cache", "auto", "--log-level", "error"]
    for kind, host in (("uid", uid), ("gid", gid)):
        arguments += [f"--translate-{kind}", f"squash-guest:0:{host}:{ALL_IDS}"]
        arguments += [f"--translate-{kind}", f"host:{host}:{GUEST_USER}:1"]
    # Entering a chroot needs root. An ordinary user's virtiofsd can reach only what that user can.
    arguments += ["--sandbox", "chroot" if os.geteuid() == 0 else "none", "--inode-file-handles=never"]
    if os.geteuid() == 0:
        # As root it could make device nodes and file capabilities on the host for the guest's root.
        arguments.append("--modcaps=-mknod:-setfcap")
    if shared.read_only:
        arguments.append("--readonly")
    return arguments


def host_owner(source: Path) -> tuple[int, int]:
    """Who owns on the host what the guest makes: the user, or, for root, the owner of the directory."""
    if os.geteuid() != 0:
        return os.getuid(), os.getgid()
    seen = source.stat()
    return seen.st_uid, seen.st_gid


@contextlib.asynccontextmanager
async def serve_directory(
    shared: SharedDirectory, tools: Tools, server: Path, on_warning: Callable[[str], None] = lambda text: None
) -> AsyncIterator[Path]:
    """Serve `shared` on the unix socket `server` (made here, removed after) for the length of the block.

    We listen before virtiofsd starts, so QEMU can connect at once. `on_warning` hears of masks that this host does not
    let us make. Raises VmmError when there is no such directory, and turns a VmmError of the block into one with
    virtiofsd's words when virtiofsd had failed.
    """
    if not shared.source.is_dir():
        raise VmmError(f"{shared.source} is not a directory" if shared.source.exists() else f"no {shared.source}")
    async with contextlib.AsyncExitStack() as stack:
        errors = stack.enter_context(LastWords())
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(server))
        stack.callback(server.unlink, missing_ok=True)
        server.chmod(0o600)
        listener.listen(1)
        options: dict[str, Any] = {"env": tools.virtiofsd.env, "stderr": errors, "grace_s": 1.0}
        place = server.with_suffix("")
        place.mkdir(mode=0o700, exist_ok=True)
        stack.callback(_remove, place)
        try:
            process = await stack.enter_async_context(
                spawn_masked(
                    _command(shared, place, tools, listener),
                    shared.source,
                    place,
                    shared.masks,
                    pass_fds=[listener.fileno()],
                    **options,
                )
            )
        except MaskError as error:
            if shared.masks:
                names = ", ".join(str(shared.source / mask.path) for mask in shared.masks)
                on_warning(f"the guest can change {names}: {error.brief}")
            if Path(os.path.realpath(shared.source)) != shared.source:
                raise VmmError(f"{shared.source} leads through a link") from None
            command = _command(shared, shared.source, tools, listener)
            process = await stack.enter_async_context(spawn(command, pass_fds=[listener.fileno()], **options))
        # virtiofsd has the only copy now: when it is gone, QEMU is refused instead of waiting for ever.
        listener.close()
        try:
            yield server
        except VmmError as error:
            with contextlib.suppress(TimeoutError):  # QEMU may have heard of its end before we did
                await asyncio.wait_for(process.wait(), 0.2)
            if not process.returncode:
                raise
            raise VmmError(f"virtiofsd could not serve {shared.source}", details=errors.text(2000)) from error


def _remove(place: Path) -> None:
    # Never what is in it: if something were, it would be the user's.
    with contextlib.suppress(OSError):
        place.rmdir()


def _command(shared: SharedDirectory, seen_at: Path, tools: Tools, listener: socket.socket) -> list[str]:
    uid, gid = host_owner(shared.source)
    arguments = virtiofsd_arguments(shared, seen_at, listener.fileno(), uid=uid, gid=gid)
    return [*tools.virtiofsd.argv, *arguments]
