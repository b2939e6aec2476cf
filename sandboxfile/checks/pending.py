"""What a file may ask for although the engine cannot do it yet."""

from __future__ import annotations

from sandboxfile.positions import KeyPath
from sandboxfile.sections.model import Sandbox


def not_yet(sandbox: Sandbox) -> list[tuple[KeyPath, str]]:
    """(path, message) of each part that is valid but not implemented yet, so that none is silently ignored."""
    found: list[tuple[KeyPath, str]] = []
    for index, mount in enumerate(sandbox.mounts):
        if mount.mode == "clone":
            found.append((("mounts", index, "mode"), "mounts of mode clone are not implemented yet"))
        found += [
            (("mounts", index, key), f"`{key}` is not implemented yet")
            for key in (("hide", "local") if mount.mode == "clone" else ("local",))
            if getattr(mount, key)
        ]
    return found
