"""What a supervisor tells the `up` that started it, one JSON object a line, and its own log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from engine.secrets.redaction import redact_held
from engine.supervisor.held_lines import HeldLines
from vmm.connection import close_writer

FLUSH_S = 5.0
LINES_QUEUED = 1 << 16  # bytes on their way to `up`, above which lines wait, and then are left out


class Events:
    """What `up` hears. Events after it went away are dropped."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._lines = HeldLines()
        self.started = time.monotonic()
        self.warnings: list[str] = []
        self.on_warning: Callable[[], object] = lambda: None

    def send(self, event: str, **fields: Any) -> None:
        self._send_lines(insist=True)
        print(self._write(event, fields), flush=True)  # the supervisor's log

    def line(self, text: str) -> None:
        """A line of the guest's. Not for the log: the guest chooses how many there are. An `up` that takes them slowly
        gets fewer of them.
        """
        self._lines.put(text)
        self._send_lines()

    def _send_lines(self, *, insist: bool = False) -> None:
        while insist or self._writer.transport.get_write_buffer_size() < LINES_QUEUED:
            if (text := self._lines.take()) is None:
                return
            self._write("line", {"text": text})

    def _write(self, event: str, fields: dict[str, Any]) -> str:
        said = {key: redact_held(value) if isinstance(value, str) else value for key, value in fields.items()}
        line = json.dumps({"event": event, "after_s": round(time.monotonic() - self.started, 3), **said})
        with contextlib.suppress(Exception):
            self._writer.write(line.encode() + b"\n")
        return line

    def step(self, title: str) -> None:
        self.send("step", title=title)

    def warn(self, text: str) -> None:
        """Something of the sandbox is weaker than it should be. The record keeps it, too."""
        self.warnings.append(redact_held(text))
        self.send("warning", text=text)
        self.on_warning()

    def warn_soon(self) -> Callable[[str], None]:
        """The same for other threads; to be called in the loop's."""
        loop = asyncio.get_running_loop()

        def tell(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.warn, text)

        return tell

    def release(self) -> None:
        """There will be no more events; what was said still reaches `up`, whenever it reads."""
        with contextlib.suppress(Exception):
            self._writer.close()

    async def close(self) -> None:
        """The same before this process ends: waits up to FLUSH_S for an `up` that reads."""
        await close_writer(self._writer, FLUSH_S)
