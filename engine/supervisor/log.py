"""Where a supervisor's own output goes. It is not all our choice: the guest causes errors, and they are told of."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from engine.secrets.redaction import redact_held
from vmm.rotated_log import RotatedLog

LIMIT = 1 << 20  # bytes


class LogStream(io.TextIOBase):
    """Text into a log of bounded size, without the values of secrets that this process holds.

    What cannot be written is dropped: the sandbox lives on with a full disk.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self._log = RotatedLog(path, limit)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        self._log.close()
        super().close()

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._log.write(redact_held(text).encode(errors="backslashreplace"))
        return len(text)


def redirect_output(path: Path) -> None:
    """From now on what this process prints, errors included, goes to the log at `path`."""
    sys.stdout = sys.stderr = LogStream(path)
