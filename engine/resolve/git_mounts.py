"""Warnings about mounts in which git would not work."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from engine.clones.linked import linked_repository
from engine.workspaces.git_links import SUBMODULE, git_link
from sandboxfile import Diagnostic, Loaded


def git_warnings(loaded: Loaded) -> Iterator[Diagnostic]:
    """A warning for each mount in which git will not work, with the mounts that revive it."""
    targets = {mount.target for mount in loaded.sandbox.mounts}
    for index, mount in enumerate(loaded.sandbox.mounts):
        try:
            source = Path(os.path.normpath(loaded.project / Path(mount.source).expanduser()))
        except RuntimeError:  # ~nobody
            continue
        if mount.mode == "clone" and linked_repository(source, "") is not None:
            continue  # the copy gets a whole one
        link = git_link(source, mount.target)
        if link is None or {target for _, target in link.mounts} <= targets:
            continue
        message = f"is {link.kind} of git, and its repository is not in the machine: no git command works there"
        paths = (f"{os.path.relpath(source / one, loaded.project)}:{target}" for one, target in link.mounts)
        instead = "instead" if link.kind == SUBMODULE else "in addition"
        hint = f"mount, {instead}: {', '.join(paths)}; the machine can write there: {link.repository}"
        problem = loaded.diagnostic(("mounts", index), message, hint)
        yield dataclasses.replace(problem, severity="warning")
