"""`sync`: both sides of a private copy get one content, or, where that cannot be, stay as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clones.applying import Host, Step, carry_out, new_mark
from engine.clones.base import Base
from engine.clones.changes import read_changes
from engine.clones.choice import never_copied
from engine.clones.host_side import read_host_changes
from engine.clones.interrupted import Record
from engine.clones.putting import keep, put_back, put_into_guest
from engine.clones.syncing import Crossing, Ways, check_not_emptied, plan_sync
from engine.errors import EngineError
from engine.lifecycle.clones import alone_with, assign_paths, clones_of, obeyed_in, scratch
from engine.workspaces.clone_point import ClonePoint

if TYPE_CHECKING:
    from engine.state.layout import Layout
    from vmm.channel.guest import GuestChannel


@dataclass(frozen=True)
class Synced:
    """One clone, and what has become of each file; `skipped` is what of the guest's can be no file of a project."""

    point: ClonePoint
    crossings: tuple[Crossing, ...]
    skipped: tuple[str, ...] = ()

    @property
    def conflicts(self) -> tuple[Crossing, ...]:
        return tuple(one for one in self.crossings if one.action == "conflict")


class InConflict(EngineError):
    """Both sides have changed the same lines of some files: nothing was synced. `paths` are these files."""

    def __init__(self, found: Sequence[Synced]) -> None:
        conflicts = [one for synced in found for one in synced.conflicts]
        count = sum(len(synced.crossings) for synced in found)
        super().__init__(
            f"nothing was synced: {len(conflicts)} of {count} files are in conflict",
            "\n".join(f"{one.path}: {one.why}" for one in conflicts[:20]),
            "name the files that you want (`sandbox sync PATH...`), or make one side as both should be",
        )
        self.paths = tuple(one.path for one in conflicts)


async def sync(
    layout: Layout, name: str | None, words: Sequence[str] = (), *, ways: Ways = "both", dry_run: bool = False
) -> tuple[str, list[Synced]]:
    """Sync all clones of a sandbox, or of each the paths that the user wrote; with `dry_run`, only say what would be.

    Takes as long as both sides need to look at their files. Raises EngineError, InConflict among them, and GuestError;
    then no side of that clone has changed.
    """
    from vmm.channel.client import connect

    instance, control, points = clones_of(layout, name)
    assigned = assign_paths(points, words)
    with scratch() as directory, ExitStack() as stack:
        async with await connect(control) as client:
            works = list[tuple[CloneSync, list[str]]]()
            for number, (point, paths) in enumerate(zip(points, assigned, strict=True)):
                if paths is not None:
                    base = layout.instance(instance.name).clone(number)
                    work = stack.enter_context(CloneSync(client, point, base, directory / str(number)))
                    await work.look(paths, ways)
                    works.append((work, paths))
            _check_known(works)
            found = [work.synced for work, _ in works]
            if dry_run:
                return instance.name, found
            if any(one.conflicts for one in found):
                raise InConflict(found)
            for work, _ in works:
                await work.do()
            return instance.name, [work.synced for work, _ in works]


class CloneSync:
    """The sync of one clone: a context manager within which no other command touches its base."""

    def __init__(self, channel: GuestChannel, point: ClonePoint, directory: Path, blobs: Path) -> None:
        self._channel, self._point, self._directory, self._blobs = channel, point, directory, blobs
        self._stack = ExitStack()
        self.synced = Synced(point, ())

    def __enter__(self) -> CloneSync:
        with ExitStack() as stack:
            stack.enter_context(alone_with(self._directory))
            self._base = Base.load(self._directory)
            self._host = stack.enter_context(Host(self._point.source))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    async def look(self, paths: Sequence[str], ways: Ways) -> None:
        """Make the plan. `paths` are those that the user wrote, none for all."""
        point, base = self._point, self._base
        unfinished = Record(self._directory).clean(self._host)
        never = never_copied(point.leave_out, point.hide)
        reading = asyncio.create_task(
            asyncio.to_thread(read_host_changes, point, self._host, base, self._blobs / "host", never)
        )
        try:
            outgoing = await read_changes(self._channel, point.target, base, self._blobs / "copy")
        finally:
            await asyncio.wait([reading])  # it cannot be stopped, and writes into what will be removed
            reading.exception()  # whoever did not end well first is who is told of
        incoming = await reading
        if not paths:
            check_not_emptied(outgoing, "in the copy")
            check_not_emptied(incoming, "on this host")
        own = never_copied(point.leave_out)
        found = plan_sync(
            outgoing,
            incoming,
            self._host,
            ways=ways,
            chosen=lambda path: not own(path) and _is_among(path, paths),
            named=paths,
            obeyed=obeyed_in(point.source),
            hidden=never,
            unfinished=unfinished,
        )
        self.synced = Synced(point, tuple(found), outgoing.skipped)

    def knows(self, path: str) -> bool:
        """Whether a file of that name, or in such a directory, was copied or is about to be synced."""
        names = [*self._base.entries, *(one.path for one in self.synced.crossings)]
        return any(_is_among(name, [path]) for name in names)

    async def do(self) -> None:
        """Carry the plan out: in the guest first, where it can be taken back, and the base last."""
        found = self.synced.crossings
        if not any(one.meet for one in found):
            return
        puts = [one.put for one in found if one.put is not None]
        mark = self._begin(found)
        if puts:
            left = await put_into_guest(self._channel, self._point.target, puts)
            found = tuple(one.refused(left[one.path]) if one.path in left else one for one in found)
        try:
            if puts:
                mark = self._begin(found)
            carry_out(self._host, _steps(found), mark=mark, what="synced")
        except BaseException:
            if puts:
                await put_back(self._channel, self._point.target)
            raise
        met = {one.path: one.common for one in found if one.meet}
        await keep(self._channel, self._point.target, [*met])
        self._base.advance(met)
        Record(self._directory).remove()
        self.synced = Synced(self._point, found, self.synced.skipped)

    def _begin(self, found: Sequence[Crossing]) -> str:
        """Record what is about to be done, for the one after us if this process is killed; returns the mark."""
        mark = new_mark()
        Record(self._directory).write(mark, _steps(found), [one.intent for one in found if one.intent is not None])
        return mark


def _check_known(works: Sequence[tuple[CloneSync, list[str]]]) -> None:
    for path in dict.fromkeys(path for _, paths in works for path in paths):
        if not any(work.knows(path) for work, paths in works if path in paths):
            raise EngineError(f"{path} is no file of the copy", hint="`sandbox sync --dry-run` lists all", exit_code=2)


def _steps(found: Sequence[Crossing]) -> list[Step]:
    return [one.step for one in found if one.step is not None]


def _is_among(path: str, names: Sequence[str]) -> bool:
    return not names or any(path == name or path.startswith(f"{name}/") for name in names)
