"""What is kept of a sandbox for the next one of its name: sessions and histories of its agent, in one archive.

It is saved when the sandbox ends and unpacked when the next one starts. The archive is replaced as a whole: whatever
interrupts a save, the last one is there. What a killed supervisor has not saved is lost. The guest writes what is in
it, so it is sifted both ways: files and directories below the paths that are kept, and not more than LIMIT.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

from engine.files import make_private
from engine.state.instances import Instance, load_instance
from engine.state.layout import Layout
from vmm.channel.copy import receive_archive, send_archive
from vmm.channel.guest import GuestChannel
from vmm.channel.sift import sift
from vmm.channel.stream import LocalStream
from vmm.errors import VmmError
from vmm.private import private

LIMIT = 64 << 20  # bytes of content
SAVE_S = 15.0  # `down` waits for it, and after 20 s it ends us
RESTORE_S = 30.0
_BLOCK = 1 << 16
# Of a path that is not there tar would complain; a file that changes meanwhile (1) is kept as it was read.
_PACK = """
cd -- "$1" || exit 0
shift
for path; do if [ -e "$path" ]; then printf '%s\\0' "$path"; fi; done |
    tar -c --format=posix --pax-option=delete=atime,delete=ctime --hard-dereference --numeric-owner \\
        --null --verbatim-files-from -T - -f - || [ $? = 1 ]
"""


class Keeper:
    """That of one sandbox, whose record says what is kept. `end` is whether it is saved when the sandbox ends."""

    def __init__(self, layout: Layout, record: Instance, channel: GuestChannel) -> None:
        self.end = True
        self._layout = layout
        self._name = record.name
        self._path = layout.project_kept(Path(record.project), record.name)
        self._channel = channel
        self._busy = asyncio.Lock()

    async def restore(self) -> str | None:
        """Unpack what is kept, as the agent's user. Returns why it could not be done, None when nothing was wrong."""
        keeps = self._keeps()
        if keeps is None or not self._path.exists():
            return None
        try:
            async with asyncio.timeout(RESTORE_S):
                with self._path.open("rb") as file:

                    def write(send: Any) -> None:
                        sift(lambda: file.read(_BLOCK), send, keeps.paths, LIMIT)

                    await send_archive(self._channel, write, keeps.home, "what was kept", keeps.user)
        except (VmmError, OSError, TimeoutError) as error:
            return _why(error)
        return None

    async def save(self) -> str | None:
        """Keep what is there now, in the place of what was kept before. Returns why not, None when it is kept."""
        keeps = self._keeps()
        if keeps is None:
            return None
        new = self._path.with_suffix(".new")
        argv = ["sh", "-c", _PACK, "sh", keeps.home, *keeps.paths]
        async with self._busy:
            try:
                make_private(new.parent)
                async with asyncio.timeout(SAVE_S):
                    with open(new, "wb", opener=private) as file:

                        def write(data: bytes) -> None:
                            file.write(data)

                        def take(read: Any) -> int:
                            return sift(read, write, keeps.paths, LIMIT, skip=True).files

                        await receive_archive(self._channel, argv, take, "what is kept", keeps.user)
                        file.flush()
                        os.fsync(file.fileno())
                new.replace(self._path)
                _sync(self._path.parent)
            except (VmmError, OSError, TimeoutError) as error:
                return _why(error)
            finally:
                with contextlib.suppress(OSError):
                    new.unlink(missing_ok=True)
        return None

    async def handle(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `keep`: {lost: why what was to be kept is not, or None}."""
        return {"lost": await self.save()}

    def _keeps(self) -> Any:
        record = load_instance(self._layout, self._name)
        return record.keeps if record is not None else None


def _why(error: BaseException) -> str:
    return getattr(error, "brief", "") or str(error) or f"it took longer than {SAVE_S:g} s"


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
