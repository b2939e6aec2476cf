"""The names of a snapshot's files, for those who need nothing else of it."""

from __future__ import annotations

from pathlib import Path


def disk_in(directory: Path) -> Path:
    """The qcow2 with the machine's disk, which a sandbox's own disk lies over."""
    return directory / "disk.qcow2"


def ram_in(directory: Path) -> Path:
    """The machine's memory."""
    return directory / "ram"
