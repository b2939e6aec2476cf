"""Asking the user about what a file wants of this host beyond its own project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.errors import EngineError

if TYPE_CHECKING:
    from sandboxfile import Loaded


def approve(loaded: Loaded, yes: bool) -> None:
    """Return when everything is inside the project, or the user agrees (`yes`: has agreed).

    Raises EngineError when the user does not, and (exit code 2) where nobody can be asked.
    """
    wishes = outside(loaded)
    if not wishes or yes:
        return
    click.echo("This file asks for directories outside its project:", err=True)
    for source, target, mode in wishes:
        click.echo(f"  {source} -> {target} ({mode})", err=True)
    if not sys.stdin.isatty():
        raise EngineError("nobody is here to approve that", hint="`--yes` approves", exit_code=2)
    if not click.confirm("Allow?", err=True):
        raise EngineError("not approved: nothing was started")


def outside(loaded: Loaded) -> list[tuple[str, str, str]]:
    """(real path, target, mode) of each mount that leads out of the project, also through a link."""
    from sandboxfile.diagnostics import printable

    project = loaded.project.resolve()
    mounts = [
        ((loaded.project / Path(mount.source).expanduser()).resolve(), mount.target, mount.mode)
        for mount in loaded.sandbox.mounts
    ]
    return [(printable(str(real)), target, mode) for real, target, mode in mounts if not real.is_relative_to(project)]
