"""Reading a file of a repository that nobody has looked at yet."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_regular_file(path: Path, at_most: int) -> bytes:
    """The first `at_most` + 1 bytes of the file at `path`.

    A repository may hold a FIFO or a link to a device under any name: neither blocks or fills the memory. Raises
    OSError (IsADirectoryError, FileNotFoundError) for what is no regular file, ValueError for a path with a null byte.
    """
    # Windows has no such flag, and no FIFOs among its files either.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        if not stat.S_ISREG(mode):
            raise OSError("this is not a regular file")
        return file.read(at_most + 1)
