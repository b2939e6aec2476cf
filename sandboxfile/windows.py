"""Paths as Windows writes them, which mean something else here or nothing."""

from __future__ import annotations

import re

# An included file's paths have been put behind its directory.
_DRIVE = re.compile(r"(?:^|/)(?P<drive>[A-Za-z]):(?P<rest>[\\/].*)$", re.DOTALL)
_BACKWARD = re.compile(r"(?:^|/)(?P<path>\.{1,2}\\.*)$", re.DOTALL)


def windows_path(text: str) -> tuple[str, str] | None:
    """The problem of a path of Windows, and what to write here; None for every other path."""
    if match := _DRIVE.search(text):
        path = f"/mnt/{match['drive'].lower()}{match['rest']}".replace("\\", "/").rstrip("/")
        return (
            "is a path of Windows, and this is Linux",
            f"in WSL it is {path}; better a path in the project, such as .",
        )
    if match := _BACKWARD.search(text):
        return "is written with the \\ of Windows", f"write {match['path']}".replace("\\", "/")
    return None


def split_windows_mount(text: str) -> tuple[str, str, str] | None:
    """(source, target, the rest) of SOURCE:TARGET whose source is a path of Windows; None for every other text."""
    match = re.fullmatch(r"([A-Za-z]:[\\/][^:]*|\.{1,2}\\[^:]*):([^:]*)(:.*)?", text, re.DOTALL)
    return (match[1], match[2], match[3] or "") if match else None
