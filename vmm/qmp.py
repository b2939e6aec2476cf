"""QEMU's machine protocol: the maintained client, with deadlines and our errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError, Runstate

from vmm.errors import VmmError

# The library logs every disconnect of a peer that we ourselves ended.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Qmp:
    """A negotiated QMP session."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client
        self._lending = asyncio.Lock()  # QEMU keeps only the last descriptor that it was sent

    async def execute(self, command: str, *, timeout_s: float = 20.0, **arguments: Any) -> Any:
        """Run one command and return its answer. Underscores in the arguments' names stand for QMP's hyphens.

        Raises VmmError when QEMU refuses it, is gone, or does not answer within `timeout_s` seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                named = {name.replace("_", "-"): value for name, value in arguments.items()}
                return await self._client.execute(command, named or None)
        except TimeoutError:
            raise VmmError(f"QEMU did not answer {command} within {timeout_s:.0f} s") from None
        except ExecuteError as error:
            raise VmmError(f"QEMU refused {command}", details=str(error)) from error
        except (QMPError, OSError, EOFError) as error:
            raise VmmError(f"QEMU was gone before it answered {command}", details=str(error) or None) from error

    async def monitor(self, line: str) -> str:
        """Run a command of the human monitor (for the few that QMP has no name for) and return its text."""
        return str(await self.execute("human-monitor-command", command_line=line))

    async def _send(self, descriptor: int, command: str, **arguments: Any) -> Any:
        async with self._lending:
            try:
                self._client.send_fd_scm(descriptor)
            except (QMPError, OSError) as error:
                raise VmmError(f"QEMU was gone before it answered {command}", details=str(error) or None) from error
            return await self.execute(command, **arguments)

    async def lend_socket(self, connection: socket.socket, name: str) -> None:
        """Give QEMU, which can make no connection by itself, a copy of one, under `name`. Raises VmmError."""
        await self._send(connection.fileno(), "getfd", fdname=name)

    async def lend(self, path: Path, flags: int, name: str | None = None) -> str:
        """Give QEMU, which can open nothing by itself, the file at `path`; returns the name that it opens.

        `flags` are those that QEMU will open it with; a file that is made is the user's alone. `name` is that of the
        same file, lent with other flags. Raises VmmError.
        """
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise VmmError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            among = {} if name is None else {"fdset_id": _number(name)}
            answer = await self._send(descriptor, "add-fd", opaque=str(path), **among)
        finally:
            os.close(descriptor)
        return f"/dev/fdset/{answer['fdset-id']}"

    async def take_back(self, name: str) -> None:
        """Of a file that was lent QEMU keeps no more than what it has opened; never raises."""
        with contextlib.suppress(VmmError):
            await self.execute("remove-fd", fdset_id=_number(name))

    async def migrate(self, command: str, state: Path, *, timeout_s: float) -> None:
        """Run `migrate` to the file `state`, or `migrate-incoming` from it, and wait until it completed.

        Raises VmmError with QEMU's reason, when QEMU ends meanwhile, or after `timeout_s` seconds.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if command == "migrate" else os.O_RDONLY
        name = await self.lend(state, flags)
        try:
            async with asyncio.timeout(timeout_s):
                status = await self._migrate(command, f"file:{name}")
                if status != "completed":
                    answer = await self.execute("query-migrate")
                    raise VmmError(f"{command} {status}", details=answer.get("error-desc"))
        except TimeoutError:
            raise VmmError(f"{command} was not done after {timeout_s:.0f} s") from None
        finally:
            await self.take_back(name)

    @contextlib.contextmanager
    def hearing(self, event: str) -> Iterator[EventListener]:
        """The events of this name that come within the block."""
        with self._client.listener(event) as events:
            yield events

    async def _migrate(self, command: str, uri: str) -> str:
        with self._client.listener("MIGRATION") as events:
            await self.execute(command, uri=uri)
            # The events of a QEMU that dies just stop coming: look for that too.
            last = asyncio.ensure_future(_last_status(events))
            gone = asyncio.ensure_future(self._gone())
            try:
                await asyncio.wait({last, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not last.done():
                    raise VmmError(f"QEMU ended during {command}")
                return last.result()
            finally:
                last.cancel()
                gone.cancel()
                await asyncio.wait({last, gone})

    async def _gone(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()

    async def close(self) -> None:
        """End the session; never raises."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.disconnect(), 2)


def _number(name: str) -> int:
    return int(name.rpartition("/")[2])


async def _last_status(events: EventListener) -> str:
    while True:
        status = cast(dict[str, Any], (await events.get()).get("data", {})).get("status")
        if status in ("completed", "failed", "cancelled"):
            return str(status)


@contextlib.asynccontextmanager
async def connect_qmp(connection: socket.socket, *, timeout_s: float) -> AsyncIterator[Qmp]:
    """Negotiate on a connected socket: a greeting proves that QEMU lives. Waits at most `timeout_s` seconds."""
    client = QMPClient("sandbox")
    client.events.event_filter = lambda event: False  # nobody reads this list of all events; it would only grow
    try:
        async with asyncio.timeout(timeout_s):
            await client.connect(connection)
    except (TimeoutError, QMPError, OSError, EOFError) as error:
        with contextlib.suppress(Exception):
            await client.disconnect()
        raise VmmError("QEMU did not greet on its control socket", details=str(error) or None) from error
    session = Qmp(client)
    try:
        yield session
    finally:
        await session.close()
