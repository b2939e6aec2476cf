"""The digest of a sparse file: of its length, and of what is not zero in it, wherever the file system has holes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from vmm.memory import data_extents

BLOCK = 64 * 1024
_ZERO = bytes(BLOCK)


def digest(path: Path) -> str:
    """SHA-256 in hex. Two files have the same one exactly when they have the same bytes. Raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for offset, block in data_blocks(file.fileno(), path.stat().st_size):
            found.update(offset.to_bytes(8, "big"))
            found.update(block)
    found.update(path.stat().st_size.to_bytes(8, "big"))
    return found.hexdigest()


def data_blocks(descriptor: int, size: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of the blocks that are not all zero, in order. Offsets are multiples of BLOCK. Raises OSError."""
    done = 0
    for start, end in data_extents(descriptor, size):
        for offset in range(max(start - start % BLOCK, done), end, BLOCK):
            block = os.pread(descriptor, min(BLOCK, size - offset), offset)
            done = offset + BLOCK
            if block and block != _ZERO[: len(block)]:
                yield offset, block
