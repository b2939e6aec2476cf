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
    arguments += ["--sandbox", "chroot" if os.geteuid() == 0 else "none", "--inode-file-handles", "never"]
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

    We listen before virtiofsd starts, so QEMU can connect at once. Raises VmmError when virtiofsd ends early.
    """
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryFile() as errors:
        listener.bind(str(server))
        server.chmod(0o600)
        listener.listen(1)
        uid, gid = host_owner(shared.source)
        arguments = virtiofsd_arguments(shared, listener.fileno(), uid=uid, gid=gid)
        try:
            async with spawn(
                [*tools.virtiofsd.argv, *arguments],
                env=tools.virtiofsd.env,
                stderr=errors,
                pass_fds=[listener.fileno()],
                grace_s=1.0,
            ) as process:
                # A bad argument or directory ends it in its first milliseconds; otherwise QEMU's connect is the proof.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(process.wait()), 0.02)
                if process.returncode is not None:
                    errors.seek(0)
                    words = errors.read()[-2000:].decode(errors="replace").strip()
                    raise VmmError(f"virtiofsd could not serve {shared.source}", details=words)
                yield server
        finally:
            server.unlink(missing_ok=True)
