"""What a file may ask for although the engine cannot do it yet."""

from __future__ import annotations

from sandboxfile.positions import KeyPath
from sandboxfile.sections.model import Sandbox


def not_yet(sandbox: Sandbox) -> list[tuple[KeyPath, str]]:
    """(path, message) of each part that is valid but not implemented yet, so that none is silently ignored."""
    found: list[tuple[KeyPath, str]] = []
    for index, mount in enumerate(sandbox.mounts):
        if mount.local and mount.mode != "clone":
            found.append((("mounts", index, "local"), "`local` is not implemented yet in a live mount"))
    return found
