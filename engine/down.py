"""`down`: end a sandbox and remove everything it left, whatever state it is in."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from engine.errors import EngineError
from engine.instances import Listed, forget_instance
from engine.layout import Layout
from engine.processes import is_same_process
from vmm.channel.client import connect
from vmm.errors import VmmError

ASK_S = 5.0
END_S = 20.0  # QEMU flushes, virtiofsd lets go: well below a second when nothing is stuck
POLL_S = 0.02


async def take_down(layout: Layout, listed: Listed) -> None:
    """Ask the supervisor to stop, insist when it does not, and remove the sandbox's files.

    Waits up to END_S for a supervisor that was asked and as long again for one that was killed. Raises EngineError.
    """
    control = layout.instance(listed.name).sockets.control
    record = listed.instance
    if record is not None and record.pid is not None and record.process is not None:
        with contextlib.suppress(VmmError, OSError):
            async with await connect(control, timeout_s=ASK_S) as client:
                await client.call("down", timeout_s=ASK_S)
        # A supervisor that is still starting has no socket yet, one that is stuck does not answer it.
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if not is_same_process(record.pid, record.process):
                break
            if number is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record.pid, number)
            _wait_gone(record.pid, record.process, END_S if number is None and control.exists() else 3.0)
        if is_same_process(record.pid, record.process):
            raise EngineError(f"the supervisor of {listed.name} (process {record.pid}) does not end")
    forget_instance(layout, listed.name)


def _wait_gone(pid: int, process: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while is_same_process(pid, process) and time.monotonic() < deadline:
        time.sleep(POLL_S)
