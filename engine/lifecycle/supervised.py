"""A supervisor that is being started: its process, what it is told, and what it says until its sandbox is ready.

`resume` and `fork` start one with little else, so this loads nothing of how files are read and machines are built.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.gateway.host_proxies import host_variables
from engine.gateway.proxies import Proxies
from engine.lifecycle.supervisor_process import Spawned, ended_early, read_event, spawn_supervisor
from engine.recall.watch import asking

if TYPE_CHECKING:
    from engine.state.instance_paths import InstancePaths
    from engine.state.layout import Layout
    from engine.supervisor.launch import Launch


class Supervisor:
    """A supervisor that has been started and waits for its Launch."""

    def __init__(self, spawned: Spawned, log: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = spawned.pid
        self._words = spawned.words
        self._log = log
        self._reader = reader
        self._writer = writer

    async def send(self, launch: Launch) -> None:
        """Tell the supervisor what to start. If it has ended already, `ready` raises the reason."""
        self._writer.write(launch.to_json().encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # the supervisor has ended: `ready` raises the reason
            await self._writer.drain()

    async def ready(
        self, on_event: Callable[[str], None], on_step: Callable[[str], None] = lambda title: None
    ) -> list[dict[str, Any]]:
        """Wait until the sandbox is up; returns its services. Raises EngineError with the supervisor's reason."""
        with contextlib.suppress(ConnectionError):
            async for line in self._reader:
                if (services := read_event(line, on_event, on_step)) is not None:
                    return services
        raise ended_early(self._log, self._words)


@contextlib.asynccontextmanager
async def start_supervisor(layout: Layout, paths: InstancePaths) -> AsyncIterator[Supervisor]:
    """Start a supervisor process. It outlives the block; when the block fails, it ends with everything it owns."""
    with asking(()):  # it has not been told anything yet
        spawned = spawn_supervisor(layout)
    reader, writer = await asyncio.open_connection(sock=spawned.connection, limit=16 * 1024 * 1024)
    try:
        yield Supervisor(spawned, paths.supervisor_log, reader, writer)
    except BaseException:
        # The supervisor stops when this socket is closed.
        writer.close()
        await asyncio.shield(asyncio.to_thread(spawned.give_up))
        raise
    finally:
        writer.close()
        spawned.release()


def host_proxies() -> dict[str, str]:
    """Raises EngineError for a variable that the gateway could not use."""
    variables = host_variables(os.environ)
    Proxies(variables)
    return variables
