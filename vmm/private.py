"""Files that hold a guest's memory, disk or words, which nobody but the user may read."""

from __future__ import annotations

import os

UMASK = 0o077  # of the programs that make such files


def private(path: str, flags: int) -> int:
    """An `opener` for `open`: the file is made with mode 0600, whatever the umask says."""
    return os.open(path, flags, 0o600)
