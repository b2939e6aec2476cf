"""Replacing a file of the user's in one step."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from engine.errors import EngineError


def rewrite(path: Path, before: bytes | None, after: bytes) -> None:
    """Give the file at `path` new content; whoever reads it meanwhile sees all of the old or all of the new.

    Permissions stay, and where `path` is a link, it stays one: what it leads to is replaced. `before` is what the
    caller has read, None where there was no file. Raises EngineError when somebody changed it since, and OSError.
    """
    target = path.resolve()
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as file:
            if before is not None:
                _take_after(file.fileno(), target)
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        # Narrow, but not closed: nothing keeps an editor from writing between this look and the next line.
        if (target.read_bytes() if target.exists() else None) != before:
            raise EngineError(f"{path} was changed meanwhile", hint="do it again: nothing was written")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _take_after(descriptor: int, target: Path) -> None:
    """The mode of `target`, and its owner where that is allowed."""
    like = target.stat()
    if hasattr(os, "fchown"):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, like.st_uid, like.st_gid)
        os.fchmod(descriptor, like.st_mode & 0o7777)
