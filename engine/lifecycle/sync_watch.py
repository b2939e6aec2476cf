"""`sync --watch`: once more whenever something has changed on either side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clones import watcher
from engine.clones.base import Base
from engine.errors import EngineError
from engine.lifecycle.clones import assign_paths, clones_of
from engine.lifecycle.syncing import InConflict, Synced, sync
from vmm.channel.errors import GuestError
from vmm.errors import VmmError
from vmm.guest.guestd.wire import STDOUT

if TYPE_CHECKING:
    from engine.clones.syncing import Ways
    from engine.state.layout import Layout
    from vmm.channel.guest import GuestChannel

BEGIN_S = 60.0  # an interpreter starts in the guest, and some thousand directories are watched
AGAIN_S = 10.0  # after a trouble that may be over without a change of a file, such as another command at work
REST_S = 0.5  # between two syncs: neither side is looked at all the time


async def watch(
    layout: Layout,
    name: str | None,
    words: Sequence[str],
    ways: Ways,
    tell: Callable[[str, list[Synced]], None],
    warn: Callable[[EngineError], None],
) -> None:
    """Sync now, and then after each change, until this is cancelled or the sandbox ends.

    `tell` hears of each sync that has done something, and `warn`, once, why one could not be. Raises EngineError and
    GuestError.
    """
    from vmm.channel.client import connect

    instance, control, points = clones_of(layout, name)
    assigned = assign_paths(points, words)
    changed = asyncio.Event()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(await connect(control))
        for number, (point, paths) in enumerate(zip(points, assigned, strict=True)):
            if paths is None:
                continue
            directories = directories_of(Base.load(layout.instance(instance.name).clone(number)).entries)
            stack.enter_context(watching_here(point.source, directories, changed))
            await stack.enter_async_context(watching_there(client, point.target, directories, changed))
        await repeat(lambda: sync(layout, instance.name, words, ways=ways), changed, tell, warn, lambda: client.lost)


async def repeat(
    once: Callable[[], Awaitable[tuple[str, list[Synced]]]],
    changed: asyncio.Event,
    tell: Callable[[str, list[Synced]], None],
    warn: Callable[[EngineError], None],
    lost: Callable[[], GuestError | None],
) -> None:
    """Do it `once`, and then after each change; what cannot be done is warned of when it is another trouble.

    A conflict needs a change. Any other trouble may be over without one: after AGAIN_S it is tried again. Raises the
    GuestError that `lost` returns.
    """
    told: str | None = None
    while True:
        changed.clear()
        if (ended := lost()) is not None:
            raise ended
        again_s: float | None = None
        try:
            sandbox, found = await once()
        except (EngineError, VmmError, OSError) as trouble:
            if lost() is not None:
                continue
            error = EngineError.of(trouble)
            again_s = None if isinstance(error, InConflict) else AGAIN_S
            words = f"{error.brief}\n{error.details}"
            if words != told:
                warn(error)
            told = words
        else:
            told = None
            if any(one.action in ("to host", "to copy", "merge") for synced in found for one in synced.crossings):
                tell(sandbox, found)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(again_s):
                await changed.wait()
        await asyncio.sleep(REST_S)


def directories_of(paths: Iterable[str]) -> set[str]:
    """The directories that hold these files, and those above them; "" is the whole."""
    found = {""}
    for path in paths:
        while (path := posixpath.dirname(path)) not in found:
            found.add(path)
    return found


@contextlib.contextmanager
def watching_here(source: str, directories: Iterable[str], changed: asyncio.Event) -> Iterator[None]:
    """`changed` is set after changes in these directories of this host. Raises EngineError where none can be seen."""
    loop = asyncio.get_running_loop()
    try:
        watching = watcher.Watcher(source)
    except (OSError, AttributeError) as error:
        raise EngineError("this system cannot tell of changed files", hint="`sandbox sync` when you want it") from error
    settling: list[asyncio.TimerHandle] = []
    latest: list[float] = []  # when it is told although changes go on

    def tell() -> None:
        settling.clear()
        latest.clear()
        changed.set()

    def see() -> None:
        if watching.read():
            while settling:
                settling.pop().cancel()
            if not latest:
                latest.append(loop.time() + watcher.MOST_S)
            settling.append(loop.call_at(min(loop.time() + watcher.SETTLE_S, latest[0]), tell))

    watching.add_all(directories)
    loop.add_reader(watching.descriptor, see)
    try:
        yield
    finally:
        loop.remove_reader(watching.descriptor)
        watching.close()
        for timer in settling:
            timer.cancel()


@asynccontextmanager
async def watching_there(
    channel: GuestChannel, target: str, directories: Iterable[str], changed: asyncio.Event
) -> AsyncIterator[None]:
    """`changed` is set after changes in these directories of the guest, and when it says no more.

    Waits BEGIN_S for it to begin. Raises GuestError for one that cannot.
    """
    program = Path(watcher.__file__).read_text()
    async with channel.open_exec(["python3", "-I", "-c", program, target], stdin=True) as command:
        await command.write_stdin(json.dumps(sorted(directories)).encode() + b"\n")
        begun = asyncio.get_running_loop().create_future()

        async def listen() -> None:
            try:
                async for descriptor, data in command:
                    if descriptor == STDOUT and data:
                        if begun.done():
                            changed.set()
                        else:
                            begun.set_result(None)
            except GuestError:
                pass  # whoever syncs next hears of it
            if not begun.done():
                begun.set_exception(GuestError(f"changes in {target} cannot be watched in the guest"))
            changed.set()

        listening = asyncio.create_task(listen())
        try:
            async with asyncio.timeout(BEGIN_S):
                await begun
            yield
        except TimeoutError:
            raise GuestError(f"the guest did not begin within {BEGIN_S:.0f} s to watch {target}") from None
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
