"""The journal: what the guest asked for, and what became of it. JSON lines, bounded on disk."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from engine.gateway.errors import GatewayError
from engine.report.text import cut

# changed: the user has changed what is allowed; asked: the guest has asked them to
Verdict = Literal["allowed", "refused", "failed", "changed", "asked"]
Protocol = Literal["tls", "http", "tcp"]
How = Literal["splice", "intercept", "refuse"]  # untouched; read and written anew; not at all

_LONGEST = 1024  # characters of one field: the guest chooses them


@dataclass(eq=False)
class JournalLine:
    """One line in the making. `bytes_out` went from the guest to the network, `bytes_in` came back."""

    port: int
    verdict: Verdict = "failed"
    protocol: Protocol | None = None  # None: it never said enough to tell
    host: str | None = None
    method: str | None = None
    path: str | None = None  # in normal form where it has one, without the query, which often carries tokens
    target: str | None = None  # as the guest sent it, to be judged again by another policy; not written
    rule: str | None = None  # the rule's origin
    place: str | None = None  # where the rule is in which file
    how: How | None = None
    reason: str = ""
    asked: str = ""  # what became of a question to the user about the host; not written by itself
    bytes_in: int = 0
    bytes_out: int = 0
    started: float = field(default_factory=time.monotonic)


class Journal:
    """Appends entries to `path`; at `max_bytes` the file becomes `path.1` and so on, `keep` old files stay.

    Raises GatewayError when the file cannot be opened. A line that cannot be written later (a full disk) is lost: the
    gateway does not stop. The next line that can be written is preceded by one that says how many were.
    """

    def __init__(self, path: Path, max_bytes: int = 16 << 20, keep: int = 2, *, sandbox: str = "") -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.keep = keep
        self.sandbox = sandbox
        self._fd = -1
        self._lost = 0
        try:
            self._open()
        except OSError as error:
            raise GatewayError(f"cannot open the journal {self.path}", str(error)) from error

    def write(self, entry: JournalLine) -> None:
        """Append one line. When it returns, the line is with the kernel, or counted as lost."""
        try:
            if self._lost:
                gap = JournalLine(port=0, reason=f"lines that could not be written before this one: {self._lost}")
                self._append(self._format(gap))
                self._lost = 0
            self._append(self._format(entry))
        except OSError:
            self._lost += 1

    def _append(self, line: bytes) -> None:
        if self._fd < 0:
            self._open()
        if self._size and self._size + len(line) > self.max_bytes:
            self._rotate()
        written = os.write(self._fd, line)
        if written < len(line):  # the disk took the beginning only, which no reader could read
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(errno.ENOSPC, "no room for the whole line")
        self._size += written

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self.keep, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if self.keep <= 0:
            self.path.unlink(missing_ok=True)
        self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _format(self, entry: JournalLine) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {
            "time": now,
            "sandbox": self.sandbox,
            "verdict": entry.verdict,
            "protocol": entry.protocol,
            "host": _clip(entry.host),
            "port": entry.port,
        }
        if entry.protocol == "http" or entry.method is not None:
            fields |= {"method": _clip(entry.method), "path": _clip(entry.path)}
        fields |= {
            "rule": _clip(entry.rule),
            "place": _clip(entry.place),
            "how": entry.how,
            "reason": _clip(entry.reason),
            "bytes_in": entry.bytes_in,
            "bytes_out": entry.bytes_out,
            "duration_ms": round((time.monotonic() - entry.started) * 1000),
        }
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _clip(text: str | None) -> str | None:
    return text if text is None else cut(text, _LONGEST)
