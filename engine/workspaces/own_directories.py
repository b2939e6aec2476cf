"""Directories of a live mount that stay on the guest's own disk (`local`): whether that can be, on this host."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from engine.workspaces.hiding import hidden_rules
from vmm.fileserver.hiding import Hiding

NO_DESCRIPTOR = -1


def why_not_local(source: Path, path: str, hide: Sequence[str] = ()) -> tuple[str, str | None] | None:
    """What speaks against it, and a hint; None when nothing does. `path` is relative to the real directory `source`.

    The host needs no directory at the end of the path, as the guest is shown one; what is above it has to be there.
    Raises ValueError for what is no pattern.
    """
    hiding = Hiding(hidden_rules(hide), NO_DESCRIPTOR, NO_DESCRIPTOR)
    parts, at = path.split("/"), source
    for count, part in enumerate(parts, 1):
        at /= part
        last, here = count == len(parts), "/".join(parts[:count])
        if not last and hiding.hides(here, directory=True):
            return f"lies in {here!r}, which `hide` hides", None
        try:
            mode = os.lstat(at).st_mode
        except FileNotFoundError:
            return (
                None if last else (f"lies in {here!r}, which does not exist in {source}", "make that directory first")
            )
        except OSError as error:
            return f"{here!r} cannot be looked at: {error.strerror}", None
        if stat.S_ISLNK(mode):
            return f"{here!r} is a link on this host", "name the directory itself"
        if not stat.S_ISDIR(mode):
            return f"{here!r} is a file on this host", "`local` is for directories"
    return None
