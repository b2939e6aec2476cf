"""Free space on a disk: requiring it, watching it, and explaining in one place that there is none.

A full disk shows in three ways: as an OSError in this process, as a child process that fails and only prints the
reason, and as a machine that stands still, because QEMU silently stops a guest whose disk file cannot grow until there
is space.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Iterator
from pathlib import Path

from engine.errors import EngineError
from engine.state.trees import disk_usage
from vmm.errors import VmmError
from vmm.process import ProcessError

FULL = 1024 * 1024  # bytes free; below this QEMU's disk files no longer grow
NEARLY_FULL = 16 * 1024 * 1024  # bytes free; below this every failure is taken for one of the full disk
SCARCE = 1024**3  # bytes free; below this a process that complains about a full disk is taken to mean this disk
POLL_S = 0.5
FULL_S = 3.0  # a disk may be full for a moment, between two steps of a build, without any harm
ERRNOS = (errno.ENOSPC, errno.EDQUOT)
WORDS = ("No space left on device", "have enough free space", "Disk quota exceeded")


def free_bytes(directory: Path) -> int:
    """How much this user may still write below `directory`, or below the nearest parent of it that exists."""
    while not directory.exists():
        directory = directory.parent
    status = os.statvfs(directory)
    return status.f_frsize * (status.f_bfree if os.geteuid() == 0 else status.f_bavail)  # some is reserved for root


def require_room(directory: Path, needed_bytes: int) -> None:
    """Raises OSError (ENOSPC) when less than `needed_bytes` are free."""
    if free_bytes(directory) < needed_bytes:
        raise OSError(errno.ENOSPC, "not enough space", str(directory))


async def while_room(work: Awaitable[None], directory: Path) -> None:
    """Await `work`. When the disk has been full for FULL_S seconds, cancel it and raise OSError (ENOSPC)."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(None) as limit:
                watch = asyncio.create_task(_watch(directory, limit), name=f"room in {directory}")
                stack.push_async_callback(_end, watch)
                await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory)) from error


async def _watch(directory: Path, limit: asyncio.Timeout) -> None:
    loop = asyncio.get_running_loop()
    full_since: float | None = None
    while True:
        if free_bytes(directory) >= FULL:
            full_since = None
        elif full_since is None:
            full_since = loop.time()
        elif loop.time() - full_since >= FULL_S:
            limit.reschedule(loop.time())
            return
        await asyncio.sleep(POLL_S)


async def _end(watch: asyncio.Task[None]) -> None:
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


@contextlib.contextmanager
def explain_full_disk(root: Path, directory: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn every failure of the block that a full disk has caused into an EngineError that says so.

    `root` is the directory that the user can choose, `directory` the one below it in which the block writes;
    `needed_bytes` is what the block needs, 0 when that is not known.
    """
    try:
        yield
    except Exception as error:
        if not _was_caused_by_full_disk(error, directory):
            raise
        # What the block wrote counts as free, since it is removed when the block cleans up.
        room = disk_usage(directory) + free_bytes(directory)
        needed = f"about {_megabytes(needed_bytes)}" if needed_bytes else f"more than {_megabytes(room)}"
        lines = [f"{needed} needed there, {_megabytes(room)} free", *_what_failed(error)]
        raise EngineError(
            f"no space left in {root}",
            details="\n".join(lines),
            hint="free some space, or set SANDBOX_CACHE_DIR to a directory on a larger disk",
        ) from error


@contextlib.contextmanager
def making(what: str, directory: Path, needed_bytes: int, kind: type[EngineError]) -> Iterator[None]:
    """Make `directory`, check that `needed_bytes` are free there (0: not known), and let the block fill it.

    Raises `kind`, which names `what` is made ("the toolchain"), when less is free and for each OSError of the block.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        require_room(directory, needed_bytes)
        yield
    except OSError as error:
        if error.errno not in ERRNOS:
            raise kind(f"{what} could not be made in {directory}", details=str(error)) from error
        needs = f"{what} needs {_binary_size(needed_bytes)} while it is made" if needed_bytes else None
        raise kind(f"no space left in {directory}", hint=needs) from error


def full_disk_hint(output: str) -> str | None:
    """The hint for a process whose output complains about a full disk; None when it does not."""
    if any(word in output for word in WORDS):
        return "the disk is full: free some space and run it again"
    return None


def _was_caused_by_full_disk(error: Exception, directory: Path) -> bool:
    free = free_bytes(directory)
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in ERRNOS:
            return True
        # ProcessError is about a process of this host. A command of the guest that fills the guest's disk is no concern
        # of this disk.
        if isinstance(each, ProcessError) and full_disk_hint(each.output) and free < SCARCE:
            return True
    return free < NEARLY_FULL


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, the error that it was made from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _what_failed(error: Exception) -> Iterator[str]:
    """The lines that tell what failed: the step, the end of its output, or how much space the step needs."""
    if not isinstance(error, EngineError | VmmError):  # an OSError says nothing that the caller has not said
        return
    if "no space left" in error.brief:
        yield error.hint or ""
        return
    yield error.brief
    yield from (error.details or "").splitlines()[-5:]


def _binary_size(count: int) -> str:
    return f"{count // 1024**2} MiB" if count % 1024**3 else f"{count // 1024**3} GiB"


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:,.0f} MB"
