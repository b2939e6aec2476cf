"""The directories of this host that guests may write. A guest may have put files and links there to mislead us."""

from __future__ import annotations

import contextlib
from pathlib import Path

from engine.state.instances import list_instances
from engine.state.layout import Layout
from vmm.beneath import identity


def writable_roots(layout: Layout) -> dict[tuple[int, int], str]:
    """(device, inode) of each writable live mount of the user's sandboxes -> the name of the sandbox.

    Sandboxes that do not run any more count, too: the files that their guests have made are still there.
    """
    roots: dict[tuple[int, int], str] = {}
    for listed in list_instances(layout, answers=lambda control: True):
        for mount in listed.instance.mounts if listed.instance else ():
            with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
                if not mount["read_only"]:
                    roots.setdefault(identity(Path(mount["source"]).stat()), listed.name)
    return roots
