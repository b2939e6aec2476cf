"""What keeps a running sandbox from working now, in a file for everybody who asks.

It has its room on the disk from the start and is written over in place: the first thing that it has to say is that the
disk is full.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

ROOM = 4096  # bytes
MOST, LONGEST = 10, 300  # texts, and characters of one; six bytes of JSON each at the most, so that all of it fits


def make_troubles(path: Path) -> None:
    """Take the room for the file, with no troubles in it. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, _content(()), 0)
    finally:
        os.close(descriptor)


def write_troubles(path: Path, texts: Sequence[str]) -> None:
    """Raises OSError, as where there was no room in the beginning."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, _content(texts), 0)
    finally:
        os.close(descriptor)


def read_troubles(path: Path) -> tuple[str, ...]:
    """The texts; none where the file cannot be read, or is just being written."""
    try:
        texts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(str(text) for text in texts) if isinstance(texts, list) else ()


def _content(texts: Sequence[str]) -> bytes:
    shown = [text[:LONGEST] for text in texts[:MOST]]
    while len(data := json.dumps(shown).encode()) > ROOM:
        shown.pop()
    return data.ljust(ROOM)
