"""A directory of the host as a virtiofs server: one process of ours (vmm/fileserver) for each mount."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmm.errors import VmmError
from vmm.fileserver import ANSWERED, BEGUN, READY, quota
from vmm.last_words import LastWords
from vmm.process import IN_A_LINE, scratch_directory, spawn
from vmm.unix_socket import bind_private

# -S: no packages of anybody else. The package itself is found by the path that we were found by.
START = IN_A_LINE + "sys.path.insert(0, sys.argv.pop(1)); from vmm.fileserver.main import main; main()"
NOBODY = -1  # hears of changes
REPORT_S = 30.0  # a tenth of a second, on a busy machine one
LAST_WORDS_S = 0.2
ANSWERED_S = 3.0  # for a stand-in to answer what a dead server was asked
ROOM_S = 1.0  # between two words about the room for the guest


OnChange = Callable[[list[str]], Awaitable[None]]
OnRoom = Callable[[str], object]


@dataclass(frozen=True)
class SharedDirectory:
    """One mount: `source`, a real path of the host, appears under `tag`; `read_only` is enforced on the host's side.

    `protected` are paths in it that the guest cannot change, though it may write to the rest; they need not exist yet.
    `unconfined` serves it also where the host lets us confine nothing: the server's own checks are all there is then.
    `hidden` are rules of names that do not exist for the guest (vmm/fileserver/hiding.py). At `mount_points`, paths in
    it, the guest has empty directories to mount something on (vmm/fileserver/mount_points.py). `file` is the name of
    the one file that is shared of it, where it is for that file alone: all else of it has to be `hidden`. `limit` is
    how many bytes the guest may add to it (vmm/fileserver/quota.py).
    """

    source: Path
    tag: str
    read_only: bool = False
    protected: tuple[str, ...] = ()
    unconfined: bool = False
    hidden: tuple[Mapping[str, Any], ...] = ()
    mount_points: tuple[str, ...] = ()
    file: str = ""
    limit: int | None = None


class NotConfined(VmmError):
    """This host lets us neither use namespaces nor Landlock."""


def host_owner(source: Path) -> tuple[int, int]:
    """Who owns on the host what the guest makes: the user, or, for root, the owner of the directory."""
    if os.geteuid() != 0:
        return os.getuid(), os.getgid()
    seen = source.stat()
    return seen.st_uid, seen.st_gid


@contextlib.asynccontextmanager
async def serve_directory(
    shared: SharedDirectory,
    server: Path,
    on_end: Callable[[str], None] = lambda words: None,
    on_change: OnChange | None = None,
    on_room: OnRoom = lambda word: None,
    on_begin: Callable[[], object] = lambda: None,
) -> AsyncIterator[str]:
    """Serve `shared` on the unix socket `server` (made here, removed after) for the length of the block.

    `on_end` is told the server's last words when it ends within the block: nobody serves the mount any more then, and
    what the guest had asked has an error for an answer, unless the server's stand-in is gone, too; waits ANSWERED_S.
    `on_change` gets paths that the host has changed where the guest has looked (vmm/fileserver/watching.py); until it
    returns, further ones are gathered. `on_room` hears what has no room (DISK, FILES, LIMIT of
    vmm/fileserver/quota.py), and ROOM when there is some again; at most once in ROOM_S. `on_begin` is called when
    QEMU has begun with the device: a guest that has mounted it waits for ever where QEMU could not.
    Yields what confines the server ("namespaces, Landlock"), "" where nothing does and `unconfined` allows that.
    We listen before the server starts, so QEMU can connect at once. Raises VmmError when there is no such directory or
    it is reached through a link, NotConfined where nothing would hold the server, and turns a VmmError of the block
    into one with the server's words when it had failed. Waits up to REPORT_S for the server to have shut itself in.
    """
    if not shared.source.is_dir():
        raise VmmError(f"{shared.source} is not a directory" if shared.source.exists() else f"no {shared.source}")
    async with contextlib.AsyncExitStack() as stack:
        errors = stack.enter_context(LastWords())
        listener = stack.enter_context(bind_private(server))
        stack.callback(server.unlink, missing_ok=True)
        listener.listen(1)
        place = server.with_suffix("")
        place.mkdir(mode=0o700, exist_ok=True)
        place = place.resolve()  # the runtime directory may lie behind a link of the system (/var/run)
        stack.callback(_remove, place)
        theirs = await stack.enter_async_context(_hearing(on_change)) if on_change is not None else None
        started = _started(shared, place, listener, theirs, on_room, on_begin, stderr=errors)
        process, holds, answered = await stack.enter_async_context(started)
        # The server has the only copy now: when it is gone, QEMU is refused instead of waiting for ever.
        listener.close()
        watching = asyncio.create_task(_watch(process, errors, answered, on_end))
        stack.callback(watching.cancel)
        try:
            yield holds
        except VmmError as error:
            words = await _words(process, errors)  # QEMU may have heard of its end before we did
            if not process.returncode:
                raise
            raise VmmError(f"the file server could not serve {shared.source}", details=words) from error


@contextlib.asynccontextmanager
async def _hearing(on_change: OnChange) -> AsyncIterator[socket.socket]:
    """The server's end of a connection, whose other end hands to `on_change` what the server says, in a task."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)

    async def hear() -> None:
        with contextlib.suppress(OSError, ValueError):
            async for line in reader:
                await on_change(list(json.loads(line)))
                writer.write(b".")

    hearing = asyncio.create_task(hear())
    try:
        yield theirs
    finally:
        theirs.close()
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        writer.close()


async def _watch(
    process: asyncio.subprocess.Process, errors: LastWords, answered: asyncio.Event, on_end: Callable[[str], None]
) -> None:
    if await process.wait() != 0:  # 0: QEMU has closed the connection
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(answered.wait(), ANSWERED_S)
        on_end(errors.text(2000))


async def try_confinement() -> str:
    """What confines a file server on this host. Tries it, which takes about 100 ms. Raises NotConfined, VmmError."""
    with scratch_directory("sandbox-") as directory:
        here = directory.resolve()
        async with serve_directory(SharedDirectory(here, "try"), here / "try.sock") as holds:
            return holds


@contextlib.asynccontextmanager
async def _started(
    shared: SharedDirectory,
    place: Path,
    listener: socket.socket,
    changes: socket.socket | None,
    on_room: OnRoom,
    on_begin: Callable[[], object],
    **options: Any,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, asyncio.Event]]:
    """The server, shut in, what holds it, and whether its stand-in has answered for it."""
    uid, gid = host_owner(shared.source)
    descriptor, writer = os.pipe()
    with (
        os.fdopen(descriptor, "rb", buffering=0) as report,
        os.fdopen(writer, "wb", buffering=0) as theirs,
        contextlib.ExitStack() as stack,
    ):
        told = {
            "source": str(shared.source),
            "place": str(place),
            "uid": uid,
            "gid": gid,
            "read_only": shared.read_only,
            "protected": shared.protected,
            "hidden": shared.hidden,
            "mount_points": shared.mount_points,
            "file": shared.file,
            "limit": shared.limit,
            "unconfined": shared.unconfined,
            "listener": listener.fileno(),
            "changes": changes.fileno() if changes is not None else NOBODY,
            "report": theirs.fileno(),
        }
        package = str(Path(__file__).parent.parent)
        command = [sys.executable, "-I", "-S", "-c", START, package, json.dumps(told)]
        descriptors = [listener.fileno(), theirs.fileno(), *([changes.fileno()] if changes is not None else [])]
        async with spawn(command, pass_fds=descriptors, grace_s=1.0, **options) as process:
            theirs.close()
            if changes is not None:
                changes.close()
            reader, transport = await _reading(report)
            stack.callback(transport.close)
            try:
                answer = (await asyncio.wait_for(reader.readline(), REPORT_S)).decode(errors="replace").rstrip("\n")
            except TimeoutError:
                raise VmmError(f"the file server was not ready within {REPORT_S:.0f} s") from None
            word, _, holds = answer.partition(" ")
            if word != READY:
                raise _refusal(answer, shared.source, await _words(process, options["stderr"]))
            answered = asyncio.Event()
            hearing = asyncio.create_task(_hear(reader, on_room, on_begin, answered))
            try:
                yield process, holds, answered
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)


async def _reading(pipe: Any) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """`pipe` as a stream of short lines, and what closes it."""
    reader = asyncio.StreamReader(limit=1 << 16)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    return reader, transport


async def _hear(
    reader: asyncio.StreamReader, on_room: OnRoom, on_begin: Callable[[], object], answered: asyncio.Event
) -> None:
    """The guest decides how often there is something to say of room: of many words in a moment, the last one counts."""
    while words := (await reader.read(1 << 16)).split():
        if BEGUN.encode() in words:
            on_begin()
            if len(words) == 1:
                continue
        if ANSWERED.encode() in words:
            answered.set()
        elif (word := words[-1].decode(errors="replace")) in quota.WORDS:
            on_room(word)
        await asyncio.sleep(ROOM_S)


async def _words(process: asyncio.subprocess.Process, errors: LastWords) -> str | None:
    """What it said on its standard error, after it had a moment to end."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), LAST_WORDS_S)
    return errors.text(2000) or None


def _refusal(answer: str, source: Path, words: str | None) -> VmmError:
    number, _, reason = answer.partition(" ")
    if number == str(int(errno.ELOOP)):
        return VmmError(f"{source} leads through a link now, and did not when it was looked at")
    if number == "0":
        hint = (
            "allow user namespaces for ordinary users, use a kernel with Landlock (5.13), or mount it read-only; "
            "`up --unconfined-mounts` takes the risk"
        )
        return NotConfined(f"nothing would confine the file server of {source}: {reason}", hint=hint)
    return VmmError(f"{source} cannot be served: {reason or 'the file server ended without a word'}", words)


def _remove(place: Path) -> None:
    # Never what is in it: if something were, it would be the user's.
    with contextlib.suppress(OSError):
        place.rmdir()
