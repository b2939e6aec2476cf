"""A live mount, as a sandbox is started with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MountPoint:
    """A live mount: `source`, a real path of the host, is at `target` in the guest.

    `protected` are paths in it that the guest cannot change; `hide` are patterns of what it cannot see.
    `local` are directories in it that stay on the guest's own disk. `is_file`: `source` is a single file.
    `limit` is how many bytes the guest may add to it; None: as long as this host keeps a share of what was free.
    """

    source: str
    target: str
    read_only: bool
    protected: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    is_file: bool = False
    limit: int | None = None
