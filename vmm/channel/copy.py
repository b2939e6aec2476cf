"""`sandbox cp`: tar in the guest, Python on the host, a stream of bounded memory in between.

What goes where is docker cp's rule: into an existing directory under its own name, else as the given name; a directory
written as `dir/.` stands for its contents.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vmm.channel.answers import read as read_field
from vmm.channel.errors import GuestError
from vmm.channel.guest import ExecStream, GuestChannel, Tail
from vmm.guest.agent import STDOUT

STAT_S = 30.0


class Unwanted(Exception):
    """The command that a tree is packed for has ended, or we want no more of it."""


class Copied(NamedTuple):
    """What a copy did. `skipped`: what was left out, one line each with the reason."""

    files: int
    size: int
    skipped: tuple[str, ...]


async def copy_in(channel: GuestChannel, src: Path | str, dst: str) -> Copied:
    """Copy a file or directory of the host to the absolute path `dst` of the guest, where user agent (1000) owns it.

    Modes, times and symlinks are kept, sockets and devices skipped. Raises GuestError when a side refuses.
    """
    from vmm.channel.archive import pack

    contents = str(src).endswith("/.") or str(src) == "."
    source = Path(src)
    if not source.is_symlink() and not source.exists():
        raise GuestError(f"{source}: no such file or directory")
    is_directory = source.is_dir() and not source.is_symlink()
    target = await _stat(channel, dst)
    if target.is_directory:
        parent, name = dst, "" if contents else source.absolute().name
    elif is_directory and target.kind != "missing":
        raise GuestError(f"{dst}: is not a directory, so a directory cannot be copied there")
    elif dst.endswith("/") and not is_directory:
        raise GuestError(f"{dst}: no such directory in the guest")
    else:
        parent, name = posixpath.split(dst.rstrip("/"))
        if not (await _stat(channel, parent)).is_directory:
            raise GuestError(f"{parent}: no such directory in the guest")
    argv = ["tar", "-x", "-p", "--same-owner", "--numeric-owner", "-f", "-", "-C", parent]
    async with channel.open_exec(argv, stdin=True) as command:
        loop = asyncio.get_running_loop()

        def send(data: bytes) -> None:
            if command.ended:
                raise Unwanted  # else the whole tree would be read for nobody
            asyncio.run_coroutine_threadsafe(command.write_stdin(data), loop).result()

        said = Tail(4096)
        listening = asyncio.create_task(_listen(command, said))
        try:
            copied = None
            with contextlib.suppress(Unwanted):
                copied = await _in_thread(lambda: pack(source, name, send), command)
            command.close_stdin()
            await listening
            await _succeeded(command, said, f"{dst}: could not be written in the guest")
            if copied is None:
                raise GuestError(f"{dst}: the guest's tar ended before it had read everything")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    return copied


async def copy_out(channel: GuestChannel, src: str, dst: Path | str, *, limit: int | None = None) -> Copied:
    """Copy the absolute path `src` of the guest to `dst` on the host, where it belongs to whoever runs this.

    Nothing that the guest sends can be written outside of `dst`: names that try are refused with GuestError, links that
    lead out of the copied tree, devices and the like are skipped. No file gets set-id bits or is writable for others.
    `limit`: bytes after which to give up. Raises GuestError also when a side refuses.
    """
    from vmm.channel.archive import unpack
    from vmm.channel.tar_reader import EndedEarly

    clean = posixpath.normpath(src)
    found = await _stat(channel, clean)
    if found.kind == "missing":
        raise GuestError(f"{src}: no such file or directory in the guest")
    is_directory = found.kind == "directory"
    whole = is_directory and (src.endswith("/.") or clean == "/")
    target = Path(dst)
    if target.is_dir():
        parent, name = target, "" if whole else posixpath.basename(clean)
    elif is_directory and (target.exists() or target.is_symlink()):
        raise GuestError(f"{target}: is not a directory, so a directory cannot be copied there")
    elif str(dst).endswith("/") and not is_directory:
        raise GuestError(f"{target}: no such directory")
    else:
        parent, name = target.absolute().parent, target.absolute().name
        if not parent.is_dir():
            raise GuestError(f"{parent}: no such directory")
    where, member = (clean, ".") if whole else posixpath.split(clean)
    times = ["--format=posix", "--pax-option=delete=atime,delete=ctime"]  # fractions of seconds
    argv = ["tar", "-c", *times, "--hard-dereference", "--numeric-owner", "-f", "-", "-C", where or "/", "--", member]
    async with channel.open_exec(argv) as command:
        said = Tail(4096)
        loop = asyncio.get_running_loop()

        async def receive() -> bytes:
            async for fd, data in command:
                if fd == STDOUT:
                    return data
                said.append(data)
            return b""

        def read() -> bytes:
            return asyncio.run_coroutine_threadsafe(receive(), loop).result()

        try:
            copied = await _in_thread(lambda: unpack(read, parent, member, name, limit), command)
        except EndedEarly:
            await _succeeded(command, said, f"{src}: could not be read in the guest")
            raise
        await _succeeded(command, said, f"{src}: could not be read in the guest")
    return copied


class Found(NamedTuple):
    """What is at a path of the guest: `kind` is missing, file, directory, symlink or other. A link may lead to one."""

    kind: str
    is_directory: bool


async def _stat(channel: GuestChannel, path: str) -> Found:
    if not path.startswith("/"):
        raise GuestError(f"{path}: a path in the guest must be absolute")
    answer = await channel.call("stat", timeout_s=STAT_S, path=path)
    return Found(read_field(answer, "kind", str), read_field(answer, "directory", bool))


async def _in_thread(work: Callable[[], Copied], command: ExecStream) -> Copied:
    """Run `work`; on cancellation end the command first, which wakes the thread from its wait for it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except BaseException:
        command.close()
        await asyncio.gather(task, return_exceptions=True)
        raise


async def _listen(command: ExecStream, said: Tail) -> None:
    async for _, data in command:
        said.append(data)


async def _succeeded(command: ExecStream, said: Tail, brief: str) -> None:
    async for _, data in command:
        said.append(data)
    if await command.wait():
        raise GuestError(brief, said.join().decode(errors="replace").strip() or None)
