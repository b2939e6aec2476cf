"""The directories of this host that guests may write to: what lies there may have been made to mislead who comes by."""

from __future__ import annotations

import contextlib
from pathlib import Path

from engine.state.instances import list_instances
from engine.state.layout import Layout
from vmm.beneath import identity


def writable_roots(layout: Layout) -> dict[tuple[int, int], str]:
    """(device, inode) of every writable live mount of the user's sandboxes, and the sandbox's name.

    Those that do not run any more are among them: what their guests have made is still there.
    """
    roots: dict[tuple[int, int], str] = {}
    for listed in list_instances(layout, answers=lambda control: True):
        for mount in listed.instance.mounts if listed.instance else ():
            with contextlib.suppress(OSError, KeyError, TypeError, ValueError):
                if not mount["read_only"]:
                    roots.setdefault(identity(Path(mount["source"]).stat()), listed.name)
    return roots
