"""`sandbox cp`: tar in the guest, Python on the host, a stream of bounded memory in between.

What goes where is docker cp's rule: into an existing directory under its own name, else as the given name; a directory
written as `dir/.` stands for its contents.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from vmm.beneath import LinkInTheWay
from vmm.channel.answers import read as read_field
from vmm.channel.archive import Copied, pack, unpack
from vmm.channel.errors import GuestError
from vmm.channel.guest import ExecStream, GuestChannel, Tail
from vmm.channel.tar_reader import EndedEarly
from vmm.guest.guestd.wire import STDOUT
from vmm.place import Last, Place, Roots, hold
from vmm.walk import Found, walk

STAT_S = 30.0


T = TypeVar("T")


class Unwanted(Exception):
    """The command that a tree is packed for has ended, or we want no more of it."""


async def copy_in(channel: GuestChannel, src: Path | str, dst: str, *, roots: Roots | None = None) -> Copied:
    """Copy a file or directory of the host to the absolute path `dst` of the guest, where user agent (1000) owns it.

    Modes, times and symlinks are kept, sockets and devices skipped. Beneath one of the `roots` no link leads to what is
    copied. Raises GuestError when a side refuses, LinkInTheWay for such a link.
    """
    contents = str(src).endswith("/.") or str(src) == "."
    with _held(src, roots or {}, "directory" if contents else "name") as source:
        kind = source.kind()
        if kind == "missing":
            raise GuestError(f"{src}: no such file or directory")
        target = await _stat(channel, dst)
        if target.is_directory:
            parent, name = dst, "" if contents else source.own_name
        elif kind == "directory" and target.kind != "missing":
            raise GuestError(f"{dst}: is not a directory, so a directory cannot be copied there")
        elif dst.endswith("/") and kind != "directory":
            raise GuestError(f"{dst}: no such directory in the guest")
        else:
            parent, name = posixpath.split(dst.rstrip("/"))
            if not (await _stat(channel, parent)).is_directory:
                raise GuestError(f"{parent}: no such directory in the guest")
        try:
            return await send_tree(channel, walk(source.directory, source.name or "."), parent, name)
        except OSError as error:
            raise GuestError(f"{src}: could not be read: {error}") from None


async def send_tree(channel: GuestChannel, entries: Iterable[Found], parent: str, name: str) -> Copied:
    """Write what a walk finds into the guest's directory `parent`, the root as `name` ("": its contents only).

    The walk goes on in a thread of its own. Raises GuestError when the guest refuses, and what the walk raises.
    """
    return await send_archive(channel, lambda send: pack(entries, name, send), parent, posixpath.join(parent, name))


async def send_archive(
    channel: GuestChannel,
    write: Callable[[Callable[[bytes], None]], T],
    parent: str,
    what: str,
    user: str | None = None,
) -> T:
    """Have the guest's tar unpack in its directory `parent` what `write` sends; returns what `write` returns.

    `write` is called in a thread of its own, and has to let through what the function that it is given raises. `what`
    is what an error calls it. With `user`, the tar is that user's, and so is what it unpacks; else owners are the
    archive's. Raises GuestError when the guest refuses, and what `write` raises.
    """
    owners = ["--same-owner", "--numeric-owner"] if user is None else ["--no-same-owner"]
    argv = ["tar", "-x", "-p", *owners, "-f", "-", "-C", parent]
    async with channel.open_exec(argv, stdin=True, user=user or "root") as command:
        loop = asyncio.get_running_loop()
        given_up = threading.Event()

        def send(data: bytes) -> None:
            if given_up.is_set() or command.ended:
                raise Unwanted  # else the whole tree would be read for nobody
            asyncio.run_coroutine_threadsafe(command.write_stdin(data), loop).result()

        said = Tail(4096)
        listening = asyncio.create_task(_listen(command, said))
        try:
            done = None
            with contextlib.suppress(Unwanted):
                done = await _in_thread(lambda: (write(send),), command, given_up.set)
            command.close_stdin()
            await listening
            await _succeeded(command, said, f"{what}: could not be written in the guest")
            if done is None:
                raise GuestError(f"{what}: the guest's tar ended before it had read everything")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    return done[0]


async def copy_out(
    channel: GuestChannel, src: str, dst: Path | str, *, limit: int | None = None, roots: Roots | None = None
) -> Copied:
    """Copy a file or directory of the guest (absolute path `src`) to `dst` of the host. Trusts nothing of the guest's.

    Nothing that the guest sends can be written outside of `dst`: names that try are refused with GuestError, links that
    lead out of the copied tree, devices and the like are skipped. No file gets set-id bits or is writable for others.
    Beneath one of the `roots` no link leads to `dst`. `limit`: bytes after which to give up. Raises GuestError also
    when a side refuses, LinkInTheWay for a link on the way.
    """
    with _held(dst, roots or {}, "either") as target:
        return await _receive(channel, src, str(dst), target, limit)


async def _receive(channel: GuestChannel, src: str, dst: str, target: Place, limit: int | None) -> Copied:
    clean = posixpath.normpath(src)
    found = await _stat(channel, clean)
    if found.kind == "missing":
        raise GuestError(f"{src}: no such file or directory in the guest")
    is_directory = found.kind == "directory"
    whole = is_directory and (src.endswith("/.") or clean == "/")
    if not target.name:
        parent, name = Path(dst), "" if whole else posixpath.basename(clean)
    elif is_directory and target.kind() != "missing":
        raise GuestError(f"{dst}: is not a directory, so a directory cannot be copied there")
    elif dst.endswith("/") and not is_directory:
        raise GuestError(f"{dst}: no such directory")
    else:
        parent, name = Path(dst).parent, target.name
    where, member = (clean, ".") if whole else posixpath.split(clean)
    held = target.directory
    times = ["--format=posix", "--pax-option=delete=atime,delete=ctime"]  # fractions of seconds
    argv = ["tar", "-c", *times, "--hard-dereference", "--numeric-owner", "-f", "-", "-C", where or "/", "--", member]
    return await receive_archive(channel, argv, lambda read: unpack(read, parent, member, name, limit, held), src)


async def receive_archive(
    channel: GuestChannel,
    argv: list[str],
    take: Callable[[Callable[[], bytes]], T],
    what: str,
    user: str = "root",
) -> T:
    """Run a tar in the guest, and have `take` read its stream: chunks, an empty one at the end.

    `take` is called in a thread of its own. `what` is what an error calls it. Raises GuestError when the guest's tar
    fails, and what `take` raises.
    """
    async with channel.open_exec(argv, user=user) as command:
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
            taken = await _in_thread(lambda: take(read), command)
        except EndedEarly:
            await _succeeded(command, said, f"{what}: could not be read in the guest")
            raise
        await _succeeded(command, said, f"{what}: could not be read in the guest")
    return taken


class GuestPath(NamedTuple):
    """What is at a path of the guest: `kind` is missing, file, directory, symlink or other. A link may lead to one."""

    kind: str
    is_directory: bool


async def _stat(channel: GuestChannel, path: str) -> GuestPath:
    if not path.startswith("/"):
        raise GuestError(f"{path}: a path in the guest must be absolute")
    answer = await channel.call("stat", timeout_s=STAT_S, path=path)
    return GuestPath(read_field(answer, "kind", str), read_field(answer, "directory", bool))


@contextmanager
def _held(path: Path | str, roots: Roots, last: Last) -> Iterator[Place]:
    """`hold`, with what is wrong about the path itself as a GuestError."""
    with ExitStack() as stack:
        try:
            place = stack.enter_context(hold(path, roots, last))
        except LinkInTheWay:
            raise
        except OSError as error:
            wrong = error.filename or path
            gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
            raise GuestError(f"{wrong}: no such directory" if gone else f"{wrong}: {error.strerror}") from None
        yield place


async def _in_thread(work: Callable[[], T], command: ExecStream, give_up: Callable[[], object] = lambda: None) -> T:
    """Run `work`; on cancellation end the command first, which wakes the thread from its wait for it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except BaseException:
        give_up()
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
