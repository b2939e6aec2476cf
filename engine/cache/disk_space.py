"""Room on a disk: asked for, used up, and told in the same words wherever it shows.

A full disk shows in three ways: as an OSError of our own, as the failure of a child process that only prints so, and
as a machine that stands still: QEMU holds a guest whose disk file cannot grow, and waits for room without a word.
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

FULL = 1024 * 1024  # with less, QEMU's disk files do not grow any more
NEARLY_FULL = 16 * 1024 * 1024  # with less, whatever failed failed because of it
SCARCE = 1024**3  # with less, a process that speaks of a full disk is believed to mean this one
POLL_S = 0.5
FULL_S = 3.0  # a disk that is full for a moment, between two steps of a build, is no failure
ERRNOS = (errno.ENOSPC, errno.EDQUOT)
WORDS = ("No space left on device", "have enough free space", "Disk quota exceeded")


def free_bytes(directory: Path) -> int:
    """What this user may still write below `directory` (or the nearest directory above it that exists)."""
    while not directory.exists():
        directory = directory.parent
    seen = os.statvfs(directory)
    return seen.f_frsize * (seen.f_bfree if os.geteuid() == 0 else seen.f_bavail)  # part is kept for root


def require_room(directory: Path, needed_bytes: int) -> None:
    """Raises OSError (ENOSPC) when the disk has less than that free."""
    if free_bytes(directory) < needed_bytes:
        raise OSError(errno.ENOSPC, "not enough space", str(directory))


async def while_room(work: Awaitable[None], directory: Path) -> None:
    """Do `work`; when the disk has been full for FULL_S seconds, cancel it and raise OSError (ENOSPC)."""
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
    """Make an EngineError that says so of any failure of the block that a full disk is behind.

    `root` is the directory that the user can choose, `directory` where the block writes, below it; `needed_bytes` is
    what it needs, when that is known.
    """
    try:
        yield
    except Exception as error:
        if not _is_behind(error, directory):
            raise
        # The disk has what the block wrote, and what is still free: it goes back to that when the block cleans up.
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
    """Make `directory`, ask for the room that `what` ("the toolchain") needs there, and let the block fill it.

    Raises `kind` for an OSError of the block, and when there is less room than `needed_bytes` (0: it is not known).
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
    """What to do about a process whose output speaks of a full disk; None when it speaks of none."""
    if any(word in output for word in WORDS):
        return "the disk is full: free some space and run it again"
    return None


def _is_behind(error: Exception, directory: Path) -> bool:
    free = free_bytes(directory)
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in ERRNOS:
            return True
        # Only what runs on this host: a guest's own disk, which its commands may fill, is none of ours.
        if isinstance(each, ProcessError) and full_disk_hint(each.output) and free < SCARCE:
            return True
    return free < NEARLY_FULL


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was made of, also in another package's words."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _what_failed(error: Exception) -> Iterator[str]:
    """The failure as it showed itself: which step it was, its last words, or how much that step needs."""
    if not isinstance(error, EngineError | VmmError):  # an OSError; it says nothing more
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
