"""A directory of the host as a virtiofs server: one virtiofsd per mount."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from vmm.errors import VmmError
from vmm.process import spawn
from vmm.tools import Tools

GUEST_USER = 1000  # the guest's `agent`
ALL_IDS = 2**32 - 1


@dataclass(frozen=True)
class SharedDirectory:
    """One mount: `source` on the host appears under `tag`; `read_only` is enforced on the host's side."""

    source: Path
    tag: str
    read_only: bool = False


def virtiofsd_arguments(shared: SharedDirectory, listener: int, *, uid: int, gid: int) -> list[str]:
    """virtiofsd's arguments: everything the guest makes belongs to `uid`, and what `uid` owns is the agent's inside."""
    arguments = ["--shared-dir", str(shared.source), "--fd", str(listener), "--cache", "auto", "--log-level", "error"]
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
async def serve_directory(shared: SharedDirectory, tools: Tools, server: Path) -> AsyncIterator[Path]:
    """Serve `shared` on the unix socket `server` (made here, removed after) for the length of the block.

    We listen before virtiofsd starts, so QEMU can connect at once. Raises VmmError when there is no such directory, and
    turns a VmmError of the block into one with virtiofsd's words when virtiofsd had failed.
    """
    if not shared.source.is_dir():
        raise VmmError(f"{shared.source} is not a directory" if shared.source.exists() else f"no {shared.source}")
    uid, gid = host_owner(shared.source)
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(server))
        stack.callback(server.unlink, missing_ok=True)
        server.chmod(0o600)
        listener.listen(1)
        async with spawn(
            [*tools.virtiofsd.argv, *virtiofsd_arguments(shared, listener.fileno(), uid=uid, gid=gid)],
            env=tools.virtiofsd.env,
            stderr=errors,
            pass_fds=[listener.fileno()],
            grace_s=1.0,
        ) as process:
            # virtiofsd has the only copy now: when it is gone, QEMU is refused instead of waiting for ever.
            listener.close()
            try:
                yield server
            except VmmError as error:
                with contextlib.suppress(TimeoutError):  # QEMU may have heard of its end before we did
                    await asyncio.wait_for(process.wait(), 0.2)
                if not process.returncode:
                    raise
                errors.seek(0)
                words = errors.read()[-2000:].decode(errors="replace").strip()
                raise VmmError(f"virtiofsd could not serve {shared.source}", details=words) from error
