"""A private copy of a directory, as a sandbox is started with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClonePoint:
    """A copy of `source`, a real path of the host, is at `target` in the guest. `leave_out` are paths in it that are
    not copied, with all that is below them; `hide` are patterns of .gitignore for more of the kind."""

    source: str
    target: str
    leave_out: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
