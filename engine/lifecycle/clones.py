"""`diff`, `apply` and `pull`: what the guest of a sandbox has changed in its private copies, and taking it over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.clones.applying import Host, Step, applied, carry_out, new_mark, plan_apply
from engine.clones.base import Base
from engine.clones.changes import Change, Changes, read_changes
from engine.clones.commits import Pulled, check_branch, count_unnamed, pull_commits
from engine.clones.interrupted import Record
from engine.errors import EngineError
from engine.state.locks import locked_directory
from engine.workspaces.clone_point import ClonePoint
from engine.workspaces.run_later import run_later

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
    from vmm.process import scratch_directory

    with scratch_directory("sandbox-changes-") as directory:
        yield directory


async def pull(layout: Layout, name: str | None, branch: str | None, *, force: bool) -> list[Pulled]:
    """Make a branch of what was committed in each clone of a sandbox; default: `sandbox/NAME`.

    Raises EngineError, also for a branch that is there already, and GuestError.
    """
    from vmm.channel.client import connect

    instance, control, points = clones_of(layout, name)
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

    instance, control, points = clones_of(layout, name)
    found = []
    async with await connect(control) as client:
        for number, point in enumerate(points):
            base = Base.load(layout.instance(instance.name).clone(number))
            found.append(Looked(point, await read_changes(client, point.target, base, directory / str(number))))
    return instance.name, found


def clones_of(layout: Layout, name: str | None) -> tuple[Instance, Path, list[ClonePoint]]:
    """The record and control socket of a sandbox, and its clones. Raises EngineError, also where it has none."""
    from engine.lifecycle.selection import choose_running

    instance, control = choose_running(layout, name)
    points = [
        ClonePoint(str(one["source"]), str(one["target"]), tuple(one.get("leave_out", ())), tuple(one.get("hide", ())))
        for one in instance.clones
    ]
    if not points:
        live = ", ".join(str(mount["source"]) for mount in instance.mounts)
        hint = f"what it changes is in {live} at once" if live else "`mode: clone` on a mount makes one"
        raise EngineError(f"{instance.name} has no private copy of a directory", hint=hint, exit_code=2)
    return instance, control, points


def assign_paths(points: Sequence[ClonePoint], words: Iterable[str]) -> list[list[str] | None]:
    """For each clone the paths in it that the user wrote; an empty list for all of it, None for nothing of it.

    A word counts from the working directory, where that leads into a directory that was copied; else in each clone.
    Raises EngineError (exit code 2) for a word that leads nowhere.
    """
    given = list(words)
    found: list[list[str] | None] = [None if given else [] for _ in points]
    for word in given:
        absolute = os.path.normpath(Path.cwd() / word)
        within = [at for at, point in enumerate(points) if f"{absolute}/".startswith(f"{point.source}/")]
        if within:
            at = max(within, key=lambda at: len(points[at].source))
            path = os.path.relpath(absolute, points[at].source)
            found[at] = [] if path == "." or found[at] == [] else [*(found[at] or ()), path]
            continue
        path = os.path.normpath(word)
        if path.startswith(("/", "../")) or path in ("..", "."):
            raise EngineError(f"{word} is in no directory that was copied", exit_code=2)
        found = [[*(paths or ()), path] if paths != [] else paths for paths in found]
    return found


def choose_changes(found: Sequence[Looked], words: Iterable[str]) -> list[tuple[Looked, tuple[Change, ...], list[str]]]:
    """The changes of each clone that the user has chosen, and how. Raises EngineError where a word chooses none."""
    given = list(words)
    assigned = assign_paths([one.point for one in found], given)
    pairs = list(zip(found, assigned, strict=True))
    chosen = [(one, one.chosen(paths) if paths is not None else (), paths or []) for one, paths in pairs]
    for paths in filter(None, assigned):
        for path in paths:
            if not any(one.chosen([path]) for one, named in pairs if named and path in named):
                raise EngineError(f"{path} was not changed", hint="`sandbox diff --stat` lists what was", exit_code=2)
    return chosen


def plan(looked: Looked, chosen: Iterable[Change], named: Iterable[str]) -> list[Step]:
    """What `apply` would do with the chosen changes. Raises EngineError for a directory that is gone."""
    with Host(looked.point.source) as host:
        return plan_apply(looked.changes, host, chosen, named, obeyed_in(looked.point.source))


def obeyed_in(source: str) -> list[str]:
    """The paths in a directory of this host that git and others obey here."""
    directory = Path(source)
    return [str(path.relative_to(directory)) for path in run_later(directory) if path.is_relative_to(directory)]


@contextmanager
def alone_with(base: Path) -> Iterator[None]:
    """Within the block no other command changes the base at the directory, or what it stands for.

    Raises EngineError where one does.
    """
    with locked_directory(base) as is_ours:
        if not is_ours:
            raise EngineError("another command is just taking over changes of this copy", hint="do it again")
        yield


def apply(plans: Sequence[tuple[Looked, list[Step]]]) -> None:
    """Do it: all steps, or, where one of them is a conflict, none.

    Raises EngineError, also when a file cannot be written; then nothing of its clone is.
    """
    steps = [step for _, planned in plans for step in planned]
    if conflicts := [step for step in steps if step.action == "conflict"]:
        raise EngineError(
            f"nothing was applied: {len(conflicts)} of {len(steps)} files are in conflict",
            "\n".join(f"{step.change.path}: {step.why}" for step in conflicts[:20]),
            "name the files that you want (`sandbox apply PATH...`), or make yours as they should be first",
        )
    for looked, planned in plans:
        base = looked.changes.base
        with alone_with(base.directory), Host(looked.point.source) as host:
            if Base.load(base.directory).entries != base.entries:
                raise EngineError("nothing was applied: another command has taken over changes", hint="do it again")
            record, mark = Record(base.directory), new_mark()
            record.clean(host)
            record.write(mark, planned, ())
            carry_out(host, planned, mark=mark)
            base.advance(applied(looked.changes, planned))
            record.remove()


class Unapplied(NamedTuple):
    """How many files of clones were changed and not applied, and how many commits only branches of clones have."""

    files: int
    commits: int


async def count_unapplied(layout: Layout, name: str) -> Unapplied | None:
    """What would be lost with the clones of a sandbox; None where that cannot be told."""
    from vmm.channel.client import connect
    from vmm.errors import VmmError

    try:
        with scratch() as directory:
            _, found = await look_at_clones(layout, name, directory)
            _, control, points = clones_of(layout, name)
            async with await connect(control) as client:
                unnamed = [
                    await count_unnamed(client, point.target, one.changes.base.refs)
                    for point, one in zip(points, found, strict=True)
                ]
        return Unapplied(sum(len(one.changes.found) + len(one.changes.skipped) for one in found), sum(unnamed))
    except (EngineError, VmmError, OSError):
        return None
