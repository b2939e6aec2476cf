"""Taking changes of a clone over into the host's directory: a plan first, then all of it or nothing.

All paths are looked up beneath the open directory, and no link is followed: a guest with a live mount of the same
directory may be making some. A file that the host has changed, too, is merged, or is a conflict.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from engine.clones.base import Entry, blob_digest
from engine.clones.changes import Change, Changes
from engine.clones.comparison import merge
from engine.clones.held_back import held_back, is_repository
from engine.errors import EngineError
from vmm.beneath import DIRECTORY, FILE, PASS, open_beneath, parent_beneath
from vmm.channel.archive import stays_inside, write_all
from vmm.exchange import exchange

Action = Literal["write", "remove", "merge", "same", "conflict", "held back", "refused"]
PREFIX = ".sandbox-apply-"


@dataclass(frozen=True)
class Step:
    """What becomes of one change. `entry` and `content` are what the file will be, `here` is what it is on this host;
    `why` says why it is left alone."""

    change: Change
    action: Action
    why: str = ""
    here: Entry | None = None
    entry: Entry | None = None
    content: bytes = field(default=b"", repr=False)

    @property
    def acts(self) -> bool:
        return self.action in ("write", "remove", "merge")


class _Moved(NamedTuple):
    """A step that was done, or the half of it: `old` is the name of what was there, None for nothing."""

    step: Step
    old: str | None


class Host:
    """The directory on this host, held open; `directory` is its descriptor."""

    def __init__(self, source: str) -> None:
        """Raises EngineError when it is not there, or leads through a link."""
        self.source = source
        root = os.open("/", PASS)
        try:
            self.directory = open_beneath(root, source.lstrip("/"), DIRECTORY)
        except OSError as error:
            raise EngineError(f"{source} cannot be opened: {error.strerror}") from error
        finally:
            os.close(root)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.directory)

    def look(self, path: str) -> tuple[Entry, bytes] | None:
        """The file or link at `path`, None where there is none. Raises OSError for anything else in its place."""
        try:
            with self.parent(path) as (parent, name):
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    target = os.readlink(name, dir_fd=parent)
                    content = os.fsencode(target)
                    return Entry(False, blob_digest(content), target=target), content
                if not stat.S_ISREG(status.st_mode):
                    raise IsADirectoryError(0, "is a directory or a device on this host", path)
                with os.fdopen(open_beneath(parent, name, FILE), "rb") as file:
                    content = file.read()
        except FileNotFoundError:
            return None
        return Entry(bool(status.st_mode & 0o100), blob_digest(content), len(content)), content

    @contextlib.contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        descriptor, name = parent_beneath(self.directory, path)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    def make_parents(self, path: str, made: list[str]) -> None:
        """Make the directories that are missing above `path`; each of them comes into `made`."""
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            above = "/".join(parts[:depth])
            with self.parent(above) as (parent, name), contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o777, dir_fd=parent)
                made.append(above)


def plan_apply(
    changes: Changes, host: Host, chosen: Iterable[Change], named: Iterable[str] = (), obeyed: Iterable[str] = ()
) -> list[Step]:
    """What becomes of each chosen change.

    `named` are paths that the user wrote: nothing of them is held back. `obeyed` are paths that git on this host obeys.
    """
    names, further = tuple(named), tuple(obeyed)
    steps = [_judge(changes, host, change, names, further) for change in chosen]
    return list(_without_collisions(steps))


def _without_collisions(steps: list[Step]) -> Iterator[Step]:
    """A file that becomes a directory, or the reverse, is left alone with all that is in it."""
    refused = [step.change.path for step in steps if step.action == "refused"]
    for step in steps:
        path = step.change.path
        if step.acts and any(one.startswith(f"{path}/") or path.startswith(f"{one}/") for one in refused):
            yield Step(step.change, "refused", "a file and a directory of one name: take them over by hand")
        else:
            yield step


def _judge(changes: Changes, host: Host, change: Change, named: tuple[str, ...], further: tuple[str, ...]) -> Step:
    after = change.after
    if after is not None and after.target is not None:
        if not stays_inside(change.path.split("/"), after.target):
            return Step(change, "refused", f"a link to {after.target}, which is not in the directory")
        leads = posixpath.normpath(posixpath.join(posixpath.dirname(change.path), after.target))
        if any(map(is_repository, leads.split("/"))):
            return Step(change, "refused", f"a link to {after.target}, which is git's")
        if why := held_back(leads, named, further):
            return Step(change, "held back", f"it leads to {leads}: {why}")
    why = held_back(change.path, named, further)
    try:
        here = host.look(change.path)
    except OSError as error:
        return Step(change, "held back", why) if why else Step(change, "refused", str(error.strerror or error))
    entry, content = here if here is not None else (None, b"")
    if (entry is None and after is None) or (after is not None and after.same_as(entry)):
        return Step(change, "same", "this host has it already", entry, after, changes.after(change))
    if why:
        return Step(change, "held back", why)
    if (entry is None and change.before is None) or (entry is not None and entry.same_as(change.before)):
        return Step(change, "remove" if after is None else "write", "", entry, after, changes.after(change))
    return _merge(changes, change, entry, content)


def _merge(changes: Changes, change: Change, entry: Entry | None, content: bytes) -> Step:
    after, before = change.after, change.before
    if after is None:
        return Step(change, "conflict", "it is gone in the clone, and has changed on this host")
    if entry is None or before is None:
        why = "it has changed in the clone, and is gone on this host" if entry is None else "both have a new one"
        return Step(change, "conflict", why)
    if any(one.target is not None for one in (after, before, entry)):
        return Step(change, "conflict", "it is a link, and both have changed it")
    merged = merge(changes.before(change), content, changes.after(change), changes.blobs)
    if merged is None:
        return Step(change, "conflict", "both have changed the same lines")
    executable = after.executable if after.executable != before.executable else entry.executable
    return Step(change, "merge", "", entry, Entry(executable, blob_digest(merged), len(merged)), merged)


def new_mark() -> str:
    """The beginning of the names of what `carry_out` writes beside the files."""
    return f"{PREFIX}{secrets.token_hex(6)}"


def carry_out(
    host: Host,
    steps: Iterable[Step],
    tick: Callable[[], None] = lambda: None,
    *,
    mark: str | None = None,
    what: str = "applied",
) -> None:
    """Make the steps true: every new content is written beside its place first, and then all are moved there.

    When one cannot be moved, those before it are moved back. Raises EngineError; then nothing has changed. `mark` is of
    `new_mark`, for who wants to find what is left when this process is killed (`engine.clones.interrupted`). `what` is
    what the error says was not done.
    """
    acting = [step for step in steps if step.acts]
    mark = mark or new_mark()
    written: list[tuple[str, str]] = []
    made: list[str] = []
    moved: list[_Moved] = []
    try:
        for number, step in enumerate(acting):
            if step.action != "remove":
                host.make_parents(step.change.path, made)
                written.append((step.change.path, _write_beside(host, step, f"{mark}-{number}")))
        beside = dict(written)
        for number, step in enumerate(acting):
            tick()
            _move(host, step, beside.get(step.change.path), f"{mark}-{number}.old", moved)
        made.clear()
    except OSError as error:
        _move_back(host, moved)
        raise EngineError(
            f"nothing was {what}: {error.filename or error.filename2 or host.source}: {error.strerror}",
            "\n".join(f"what was at {one.step.change.path} lies beside it, as {one.old}" for one in moved) or None,
        ) from error
    except BaseException:
        _move_back(host, moved)
        raise
    finally:
        kept = {one.old for one in moved}  # what has changed places with ours, and could not be moved back
        for path, name in written:  # those that were moved are not there any more
            if name not in kept:
                _unlink(host, path, name)
        for path in reversed(made):
            _remove_directory(host, path)
    for one in moved:
        if one.old is not None:
            _unlink(host, one.step.change.path, one.old)
    for step in acting:
        if step.action == "remove":
            _remove_empty(host, step.change.path)


def _write_beside(host: Host, step: Step, name: str) -> str:
    assert step.entry is not None, "there is something to write"
    with host.parent(step.change.path) as (parent, last):
        if step.entry.target is not None:
            os.symlink(step.entry.target, name, dir_fd=parent)
            return name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = 0o777 if step.entry.executable else 0o666  # and what the user's umask leaves of it
        with os.fdopen(os.open(name, flags, mode, dir_fd=parent), "wb", buffering=0) as file:
            write_all(file, step.content)
            if step.here is not None and step.here.target is None:
                before = stat.S_IMODE(os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode) & 0o777
                same = bool(before & 0o100) == step.entry.executable
                os.fchmod(file.fileno(), before if same else before ^ (before & 0o444) >> 2)
    return name


def _move(host: Host, step: Step, beside: str | None, old: str, moved: list[_Moved]) -> None:
    path = step.change.path
    with host.parent(path) as (parent, name):
        if step.here is None:
            assert beside is not None, "there is nothing to remove"
            try:
                os.link(beside, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                raise OSError(errno.EAGAIN, "it was changed meanwhile", path) from None
            moved.append(_Moved(step, None))
            return
        # In one step where that can be: whoever watches the file sees the old one or the new one, and never none.
        if beside is not None and exchange(beside, name, one_in=parent, other_in=parent):
            moved.append(_Moved(step, beside))
            _check_old(host, step, beside)
            return
        os.rename(name, old, src_dir_fd=parent, dst_dir_fd=parent)
        moved.append(_Moved(step, old))
        _check_old(host, step, old)
        if beside is not None:
            os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)


def _check_old(host: Host, step: Step, old: str) -> None:
    """Raises OSError where what was at the file's place in that moment is not what was there at the plan."""
    above, slash, _ = step.change.path.rpartition("/")
    try:
        now = host.look(f"{above}{slash}{old}")
    except IsADirectoryError:
        now = None
    if now is None or not now[0].same_as(step.here):
        raise OSError(errno.EAGAIN, "it was changed meanwhile", step.change.path)


def _move_back(host: Host, moved: list[_Moved]) -> None:
    """What somebody has written at a path since stays there. In `moved` is left what could not be moved back."""
    for one in reversed(list(moved)):
        path = one.step.change.path
        with contextlib.suppress(OSError), host.parent(path) as (parent, name):
            is_ours = _is_of(host, path, one.step.entry)
            if one.old is None:
                if is_ours:
                    os.unlink(name, dir_fd=parent)
            elif is_ours:
                return_to(parent, one.old, name)
            elif _exists(parent, name):
                continue
            else:
                os.rename(one.old, name, src_dir_fd=parent, dst_dir_fd=parent)
            moved.remove(one)


def return_to(parent: int, old: str, name: str) -> None:
    """`old` comes to the place of a file of ours, which is removed. It may be a directory. Raises OSError."""
    if exchange(old, name, one_in=parent, other_in=parent):
        os.unlink(old, dir_fd=parent)
        return
    os.unlink(name, dir_fd=parent)
    os.rename(old, name, src_dir_fd=parent, dst_dir_fd=parent)


def _is_of(host: Host, path: str, entry: Entry | None) -> bool:
    """Whether the file is what was to be there."""
    try:
        now = host.look(path)
    except OSError:
        return False
    return now is not None and now[0].same_as(entry)


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unlink(host: Host, path: str, name: str) -> None:
    with contextlib.suppress(OSError), host.parent(path) as (parent, _):
        os.unlink(name, dir_fd=parent)


def _remove_empty(host: Host, path: str) -> None:
    """git keeps no empty directories, and neither does a removal."""
    above = path.rpartition("/")[0]
    while above:
        _remove_directory(host, above)
        above = above.rpartition("/")[0]


def _remove_directory(host: Host, path: str) -> None:
    """Only an empty one can be removed."""
    with contextlib.suppress(OSError), host.parent(path) as (parent, name):
        os.rmdir(name, dir_fd=parent)


def applied(changes: Changes, steps: Iterable[Step]) -> dict[str, tuple[Entry, bytes] | None]:
    """What the base of the clone becomes by the steps: what the clone has, not what was merged on this host."""
    return {
        step.change.path: (step.change.after, changes.after(step.change)) if step.change.after is not None else None
        for step in steps
        if step.acts or step.action == "same"
    }
