"""QEMU's machine protocol: the maintained client, with deadlines and our errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

from qemu.qmp import ExecuteError, QMPClient, QMPError

from vmm.errors import VmmError

# The library logs every disconnect of a peer that we ourselves ended.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Qmp:
    """A negotiated QMP session."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client

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

    async def migrate(self, command: str, uri: str, *, timeout_s: float) -> None:
        """Run `migrate` or `migrate-incoming` and wait until it completed; raises VmmError with QEMU's reason."""
        async with asyncio.timeout(timeout_s):
            with self._client.listener("MIGRATION") as events:
                await self.execute(command, uri=uri)
                async for event in events:
                    status = cast(dict[str, Any], event).get("data", {}).get("status")
                    if status == "completed":
                        return
                    if status in ("failed", "cancelled"):
                        answer = await self.execute("query-migrate")
                        raise VmmError(f"{command} {status}", details=answer.get("error-desc"))

    async def close(self) -> None:
        """End the session; never raises."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.disconnect(), 2)


@contextlib.asynccontextmanager
async def connect_qmp(connection: socket.socket, *, timeout_s: float) -> AsyncIterator[Qmp]:
    """Negotiate on a connected socket: a greeting proves that QEMU lives. Waits at most `timeout_s` seconds."""
    client = QMPClient("sandbox")
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
