"""A log on disk that does not grow for ever, whoever writes it."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

from vmm.private import private


class RotatedLog:
    """Keeps at most twice `limit` bytes: `NAME.log`, and in `NAME.old.log` what came before."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._file: FileIO | None = None

    def write(self, data: bytes) -> None:
        """Append `data`, as a whole. Raises OSError."""
        if self._file is None:
            self._file = FileIO(self._path, "ab", opener=private)
        if self._file.tell() + len(data) > self._limit:  # what is in the log already counts too
            self.close()
            self._path.replace(self._path.with_suffix(".old.log"))
            self._file = FileIO(self._path, "ab", opener=private)
        self._file.write(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
