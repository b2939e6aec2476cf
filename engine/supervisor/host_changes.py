"""What the host changes in live mounts, made visible to those in the guest who watch the files (inotify).

FUSE tells a guest of no change that it did not make. So a small program in the guest sets each such file's time of
change to one that the file server takes for nothing (vmm/fileserver/filesystem.py, NOTHING_CHANGES): the guest's kernel
tells the watchers of a change (IN_MODIFY), and neither the file nor any watcher of the host notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from engine.workspaces.mount_point import MountPoint
from vmm.channel.guest import ExecStream, GuestChannel
from vmm.errors import VmmError
from vmm.fileserver.filesystem import NOTHING_CHANGES, UTIME_OMIT

ANSWER_S = 30.0  # the interpreter starts, and a thousand files are looked up
IDLE_S = 20.0  # then the program ends, and a sandbox that nobody uses can be seen as such
# A line of JSON is [mount, paths]. What lies on another file system than the mount is the guest's own, and left alone.
PROGRAM = f"""
import ctypes, json, os, sys
libc = ctypes.CDLL(None)
times = (ctypes.c_long * 4)(0, {UTIME_OMIT}, {NOTHING_CHANGES[0]}, {NOTHING_CHANGES[1]})
FUSE = 0x65735546
kind = (ctypes.c_long * 64)()
for line in sys.stdin.buffer:
    mount, paths = json.loads(line)
    for path in paths:
        try:
            os.lstat(path)  # what another file has taken the place of is found out by this
            file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if os.fstat(file).st_dev == os.stat(mount).st_dev and not libc.fstatfs(file, kind) and kind[0] == FUSE:
                libc.utimensat(-100, b"/proc/self/fd/%d" % file, times, 0)
        except OSError:
            pass
        finally:
            os.close(file)
    print(flush=True)
"""


class HostChanges:
    """Of one sandbox. `channel` is None until its guest answers; until then nobody there watches."""

    def __init__(self, log: Callable[[str], None] = lambda text: None) -> None:
        """`log` hears why the guest was not told."""
        self._log = log
        self.channel: GuestChannel | None = None
        self._busy = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()
        self._command: tuple[ExecStream, AsyncIterator[tuple[int, bytes]]] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    def of(self, mount: MountPoint) -> Callable[[list[str]], Awaitable[None]] | None:
        """What the mount's file server calls with paths that have changed; None where the guest can be told nothing,
        as its kernel lets nobody set a time on a read-only mount."""
        if mount.read_only:
            return None

        async def tell(paths: list[str]) -> None:
            if mount.is_file:  # "" is its directory, of which the guest sees nothing else
                below = [mount.target] if any(paths) else []
            else:
                below = [f"{mount.target}/{path}".rstrip("/") for path in paths]
            await self.tell(mount.target, below)

        return tell

    async def tell(self, mount: str, paths: Sequence[str]) -> None:
        """Make those in the guest who watch `paths` below `mount` see a change. Waits up to ANSWER_S; never raises for
        a guest that does not do it."""
        if self.channel is None or not paths:
            return
        async with self._busy:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._ask(self.channel, json.dumps([mount, list(paths)]).encode() + b"\n")
            except (VmmError, OSError) as error:  # TimeoutError included
                self._log(f"the guest was not told of changed files: {error or 'no answer'}")
                await self._end()
            self._expire_later()

    async def _ask(self, channel: GuestChannel, request: bytes) -> None:
        if self._command is None:
            argv = ["python3", "-I", "-S", "-c", PROGRAM]
            command = await self._stack.enter_async_context(channel.open_exec(argv, stdin=True))
            self._command = command, aiter(command)
        command, output = self._command
        await command.write_stdin(request)
        async for _, data in output:
            if b"\n" in data:
                return
        raise VmmError("the program in the guest has ended")

    def _expire_later(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_later(IDLE_S, self._expire)

    def _expire(self) -> None:
        async def end() -> None:
            async with self._busy:
                await self._end()

        self._ending = asyncio.create_task(end())

    async def _end(self) -> None:
        self._command = None
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        with contextlib.suppress(VmmError, OSError):
            await stack.aclose()

    async def close(self) -> None:
        """End the program. Nobody is told any more."""
        self.channel = None
        if self._expiry is not None:
            self._expiry.cancel()
        if self._ending is not None:
            await asyncio.gather(self._ending, return_exceptions=True)
        await self._end()
