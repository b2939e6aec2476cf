"""The first steps of a supervisor: it reads its Launch, and begins its machine before it loads the rest of itself.

`python -m engine.supervisor.beginning` is what `up` starts. Loading the gateway takes as long as starting the programs
of a machine does, so that is done in a thread meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.guest.base import Base
from engine.guest.begun import Begun, Early, begin
from engine.scarcity import closed_after, is_scarcity
from engine.state.instance_paths import InstancePaths
from engine.state.layout import Layout
from vmm.confine import forbid_core_dumps
from vmm.errors import VmmError
from vmm.private import UMASK
from vmm.snapshot import Shape, load_snapshot
from vmm.snapshot_files import disk_in, ram_in
from vmm.tools import load_tools

REST = "engine.supervisor.__main__"
LONGEST = 64 * 1024 * 1024  # bytes of a Launch
SWITCH_S = 0.0005  # the loop gets its turn this soon while a thread loads modules; Python's own is ten times that


@contextlib.asynccontextmanager
async def begin_machine(launch: Mapping[str, Any], paths: InstancePaths) -> AsyncIterator[Begun]:
    """Begin the machine of a Launch, given as plain values, for the length of the block. Raises OSError, VmmError."""
    resumes, boots = launch["resume"], launch["boot"]
    snapshot = paths.paused.directory if resumes else Path(launch["snapshot"])
    ram = ram_in(snapshot)
    tools, early = load_tools(Path(launch["toolchain"])), None
    if not resumes and not boots:
        base = Base(tools, Path(launch["root"]), Path(launch["initrd"]), Shape(**launch["shape"]))
        early = Early(base, str(launch["name"]), load_snapshot(snapshot), paths.console_log)
    async with begin(
        tools,
        [(str(address), int(port)) for address, port in launch["doors"]],
        size=int(launch["shape"]["memory"]),
        shared=bool(launch["mounts"]),  # file servers read and write it, too
        # Where QEMU wrote the memory, it lies in the devices' state.
        ram=None if boots or (resumes and not ram.exists()) else ram,
        disk=None if resumes or boots else (paths.disk, disk_in(snapshot)),
        early=early,
    ) as begun:
        yield begun


def say_scarcity(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The loop's exception handler: what it lacked memory or descriptors for is told in a line."""
    error = context.get("exception")
    if error is not None and is_scarcity(error):
        print(f"{context.get('message')}: {str(error) or 'there is no memory left for it'}", flush=True)
    else:
        loop.default_exception_handler(context)


async def live(connection: socket.socket) -> int:
    """Read the Launch, begin, load the rest, and live. Returns the exit code of the process."""
    asyncio.get_running_loop().set_exception_handler(say_scarcity)
    reader, writer = await asyncio.open_connection(sock=connection, limit=LONGEST)
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return 130  # `up` went away before it had decided
    loading = asyncio.ensure_future(asyncio.to_thread(importlib.import_module, REST))
    async with contextlib.AsyncExitStack() as stack:
        begun = None
        with contextlib.suppress(VmmError, EngineError, OSError, ValueError, KeyError, TypeError):  # raised again where
            launch = json.loads(line)  # somebody tells `up`
            layout = Layout.from_environment({**os.environ, **launch["roots"]})
            begun = await stack.enter_async_context(begin_machine(launch, layout.instance(launch["name"])))
        rest = await loading
        sys.setswitchinterval(0.005)
        code: int = await rest.supervise(reader, writer, line, begun)
        return code


def main() -> None:
    """Entry of the process: standard input is the socket to `up`; output goes to a file of `up`'s, then to the log."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two descriptors for each connection of the guest
    forbid_core_dumps()
    os.umask(UMASK)  # whatever we or a child of ours makes is the user's alone
    connection = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.setswitchinterval(SWITCH_S)
    with closed_after(asyncio.Runner()) as runner:
        code = runner.run(live(connection))
    sys.exit(code)


if __name__ == "__main__":
    main()
