"""`diff`, `apply` and `pull`: what the guest of a sandbox has changed in its private copies, and taking it over."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clones.applying import Host, Step, applied, carry_out, plan_apply
from engine.clones.base import Base
from engine.clones.changes import Change, Changes, read_changes
from engine.clones.commits import Pulled, check_branch, pull_commits
from engine.errors import EngineError
from engine.workspaces.clone_point import ClonePoint

if TYPE_CHECKING:
    from engine.state.instances import Instance
    from engine.state.layout import Layout


@dataclass(frozen=True)
class Looked:
    """One clone of a sandbox, with what was changed in it."""

    point: ClonePoint
    changes: Changes

    def chosen(self, paths: Iterable[str]) -> tuple[Change, ...]:
        """Those of the paths, which are relative to the clone, or in directories of that name; all without paths."""
        names = tuple(paths)
        return tuple(
            change
            for change in self.changes.found
            if not names or any(change.path == name or change.path.startswith(f"{name}/") for name in names)
        )


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the contents of changes, for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="sandbox-changes-") as directory:
        yield Path(directory)


async def pull(layout: Layout, name: str | None, branch: str | None, *, force: bool) -> list[Pulled]:
    """Make a branch of what was committed in each clone of a sandbox; default: `sandbox/NAME`.

    Raises EngineError, also for a branch that is there already, and GuestError.
    """
    from vmm.channel.client import connect

    instance, control, points = _clones_of(layout, name)
    wanted = branch or f"sandbox/{instance.name}"
    for point in points:
        check_branch(Path(point.source), wanted, force=force)
    found = []
    with scratch() as directory:
        async with await connect(control) as client:
            for number, point in enumerate(points):
                base = Base.load(layout.instance(instance.name).clone(number))
                source = Path(point.source)
                found.append(await pull_commits(client, point.target, source, base.head, wanted, directory))
    return found


async def look_at_clones(layout: Layout, name: str | None, directory: Path) -> tuple[str, list[Looked]]:
    """The name of the sandbox, and its clones with their changes, whose contents go into `directory`.

    Takes as long as its guest needs to look at the files. Raises EngineError, also for a sandbox without a clone, and
    GuestError.
    """
    from vmm.channel.client import connect

    instance, control, points = _clones_of(layout, name)
    found = []
    async with await connect(control) as client:
        for number, point in enumerate(points):
            base = Base.load(layout.instance(instance.name).clone(number))
            found.append(Looked(point, await read_changes(client, point.target, base, directory / str(number))))
    return instance.name, found


def _clones_of(layout: Layout, name: str | None) -> tuple[Instance, Path, list[ClonePoint]]:
    from engine.lifecycle.selection import choose_running

    instance, control = choose_running(layout, name)
    points = [ClonePoint(str(one["source"]), str(one["target"])) for one in instance.clones]
    if not points:
        live = ", ".join(str(mount["source"]) for mount in instance.mounts)
        hint = f"what it changes is in {live} at once" if live else "`mode: clone` on a mount makes one"
        raise EngineError(f"{instance.name} has no private copy of a directory", hint=hint, exit_code=2)
    return instance, control, points


def paths_within(point: ClonePoint, words: Iterable[str]) -> list[str]:
    """What the user wrote, relative to the clone's directory: from the working directory, where that is in it."""
    found = []
    for word in words:
        absolute = os.path.normpath(Path.cwd() / word)
        if absolute == point.source:
            return []
        inside = absolute.startswith(f"{point.source}/")
        path = os.path.relpath(absolute, point.source) if inside else os.path.normpath(word)
        if path.startswith(("/", "../")) or path == "..":
            raise EngineError(f"{word} is not in {point.source}", exit_code=2)
        found.append(path)
    return found


def plan(looked: Looked, chosen: Iterable[Change], named: Iterable[str]) -> list[Step]:
    """What `apply` would do with the chosen changes. Raises EngineError for a directory that is gone."""
    with Host(looked.point.source) as host:
        return plan_apply(looked.changes, host, chosen, named)


def apply(looked: Looked, steps: list[Step]) -> None:
    """Do it: all steps, or none. Raises EngineError for a conflict, and when a file cannot be written."""
    if conflicts := [step for step in steps if step.action == "conflict"]:
        raise EngineError(
            f"nothing was applied: {len(conflicts)} of {len(steps)} files are in conflict",
            "\n".join(f"{step.change.path}: {step.why}" for step in conflicts[:20]),
            "name the files that you want (`sandbox apply PATH...`), or make yours as they should be first",
        )
    with Host(looked.point.source) as host:
        carry_out(host, steps)
    looked.changes.base.advance(applied(looked.changes, steps))


async def count_unapplied(layout: Layout, name: str) -> int:
    """How many files were changed in the clones of a sandbox, and not applied; 0 where its guest does not say."""
    from vmm.errors import VmmError

    try:
        with scratch() as directory:
            _, found = await look_at_clones(layout, name, directory)
            return sum(len(one.changes.found) for one in found)
    except (EngineError, VmmError, OSError):
        return 0
