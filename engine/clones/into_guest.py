"""Runs in the guest, as root: files of the host are put into a clone, all or none of them. Standard library only.

Its source is sent to the guest's Python (`engine/clones/putting.py`). It is given what to do, the clone's directory, a
directory for what is put aside, and the user whose the files become.

"put": a line of JSON comes in, [[path, before, after, size], ...], and then `size` bytes for each. `before` and `after`
are [executable, digest of the blob, target of a link], or null where there is nothing. Where the file is not as
`before` says, it stays as it is. It prints {"left": {path: why}}, or {"changed": path} where one was changed meanwhile;
then all are as they were. What was there is kept until "keep", or "back", which puts it back. With "keep" comes a line
with the paths of all files that the host takes for the clone's now: they are on the disk afterwards.

Each path is looked up name by name, and no link is followed: the clone is the agent's, and this is root.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
ASIDE, DONE = "sandbox-sync", "done.json"  # each clone has one of its own, by its path: another may be synced meanwhile
EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
Step = tuple[int, str, Any, Any]  # its number, the path, and what is there before and after


class Changed(Exception):
    """Somebody has changed the file since it was looked at."""


def main(word: str, root: str, state: str, uid: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        top = os.open(root, DIRECTORY)
        stack.callback(os.close, top)
        aside = open_aside(top, root, state)
        stack.callback(os.close, aside)
        if word == "put":
            clear(aside)
            print(json.dumps(put(top, aside, int(uid))))
            return
        done: list[Step] = []
        with contextlib.suppress(FileNotFoundError), open(DONE, opener=opener(aside)) as file:
            done = [tuple(step) for step in json.load(file)]
        if word == "back":
            undo(top, aside, done)
        else:
            for _, path, _, after in done:
                if after is None:
                    remove_empty(top, path)
            # Else the end of a machine would undo them, and the old ones would count for new changes of the clone's.
            keep_on_disk(top, json.loads(sys.stdin.buffer.readline()))
        clear(aside)


def keep_on_disk(top: int, paths: list[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError), parent_of(top, path) as (parent, name):
            for one, flags in ((name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), (".", DIRECTORY)):
                with contextlib.suppress(OSError):
                    descriptor = os.open(one, flags, dir_fd=parent)
                    try:
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)


def put(top: int, aside: int, uid: int) -> dict[str, Any]:
    left: dict[str, str] = {}
    steps: list[Step] = []
    for number, (path, before, after, size) in enumerate(json.loads(sys.stdin.buffer.readline())):
        content = sys.stdin.buffer.read(size)
        if len(content) < size:
            raise EOFError("the host has gone")
        why = in_the_way(top, path, before)
        if why is not None:
            left[path] = why
            continue
        if after is not None:
            write_aside(top, aside, number, path, after, content, uid)
        steps.append((number, path, before, after))
    moved: list[Step] = []
    try:
        for step in steps:
            moved.append(step)
            move(top, aside, step, uid)
        with os.fdopen(os.open(DONE, NEW, 0o600, dir_fd=aside), "w") as file:
            json.dump(moved, file)
    except Changed as error:
        undo(top, aside, moved)
        return {"changed": str(error)}
    except BaseException:
        undo(top, aside, moved)
        raise
    return {"left": left}


def in_the_way(top: int, path: str, before: Any) -> str | None:
    """Why the file stays as it is: "above" for what is no directory on the way to it, "kind" for what is no file,
    "changed" for another file than the one before."""
    try:
        with parent_of(top, path) as (parent, name):
            now = look(parent, name)
    except FileNotFoundError:
        now = None
    except OSError:
        return "above"
    if now == "other":
        return "kind"
    return None if now == before else "changed"


def look(directory: int, name: str) -> Any:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=directory)
            return [False, digest_of(os.fsencode(target)), target]
        if not stat.S_ISREG(status.st_mode):
            return "other"
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return [bool(status.st_mode & 0o100), digest_of(file.read()), None]


def digest_of(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def write_aside(top: int, aside: int, number: int, path: str, after: Any, content: bytes, uid: int) -> None:
    """The new file, with the owner and the permissions of the one in whose place it comes."""
    executable, _, target = after
    if target is not None:
        os.symlink(target, str(number), dir_fd=aside)
        own(str(number), aside, uid, uid)
        return
    mode, owner, group = 0o755 if executable else 0o644, uid, uid
    with contextlib.suppress(OSError), parent_of(top, path) as (parent, name):
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            old = stat.S_IMODE(status.st_mode) & 0o777
            mode = old if bool(old & 0o100) == executable else old ^ (old & 0o444) >> 2
            owner, group = status.st_uid, status.st_gid
    with os.fdopen(os.open(str(number), NEW, 0o600, dir_fd=aside), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
    own(str(number), aside, owner, group)


def own(name: str, directory: int, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)


def move(top: int, aside: int, step: Step, uid: int) -> None:
    number, path, before, after = step
    new, old = str(number), f"{number}.old"
    if before is None and after is None:
        return
    try:
        with parent_of(top, path, make_for=uid if after is not None else None) as (parent, name):
            if before is None:
                os.link(new, name, src_dir_fd=aside, dst_dir_fd=parent, follow_symlinks=False)
                return
            if after is not None and exchange(aside, new, parent, name):
                os.rename(new, old, src_dir_fd=aside, dst_dir_fd=aside)
            else:
                os.rename(name, old, src_dir_fd=parent, dst_dir_fd=aside)
                if after is not None:
                    os.rename(new, name, src_dir_fd=aside, dst_dir_fd=parent)
    except (FileNotFoundError, FileExistsError, NotADirectoryError):
        raise Changed(path) from None
    if look(aside, old) != before:  # what was there in the very moment
        raise Changed(path)


def undo(top: int, aside: int, steps: list[Step]) -> None:
    """Whatever was done of the steps, the last of which may have been left anywhere.

    What somebody has written at the path since, or removed there, stays as it is.
    """
    for number, path, before, after in reversed(steps):
        new, old = str(number), f"{number}.old"
        with contextlib.suppress(OSError), parent_of(top, path) as (parent, name):
            now, beside = look(parent, name), look(aside, new)
            if before is None:
                if now == after and os.path.samestat(lstat(new, aside), lstat(name, parent)):
                    os.unlink(name, dir_fd=parent)
                    remove_empty(top, path)
                continue
            was = old if look(aside, old) is not None else new if beside not in (None, after) else None
            only_taken = now is None and beside is not None and beside == after
            if was is not None and (now == after or only_taken):
                put_in_place(aside, was, parent, name, after)


def put_in_place(aside: int, was: str, parent: int, name: str, after: Any) -> None:
    """What was put aside comes back, a directory too, to the place of our file or of nothing."""
    if look(parent, name) is None:
        os.rename(was, name, src_dir_fd=aside, dst_dir_fd=parent)
    elif exchange(aside, was, parent, name):
        if look(aside, was) != after:  # what was there in the very moment is somebody's
            exchange(aside, was, parent, name)
    else:
        os.unlink(name, dir_fd=parent)
        os.rename(was, name, src_dir_fd=aside, dst_dir_fd=parent)


def lstat(name: str, directory: int) -> os.stat_result:
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


def exchange(one_in: int, one: str, other_in: int, other: str) -> bool:
    """False where the file system cannot do it."""
    library = ctypes.CDLL(None, use_errno=True)
    return int(library.renameat2(one_in, os.fsencode(one), other_in, os.fsencode(other), EXCHANGE)) == 0


@contextlib.contextmanager
def parent_of(top: int, path: str, make_for: int | None = None) -> Iterator[tuple[int, str]]:
    """The directory that `path` is in, opened name by name. Those that are missing are made, as the user's."""
    *above, name = path.split("/")
    if any(part in ("", ".", "..") for part in (*above, name)):
        raise NotADirectoryError(path)
    here = os.dup(top)
    try:
        for part in above:
            if make_for is not None:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
                    own(part, here, make_for, make_for)
            inner = os.open(part, DIRECTORY, dir_fd=here)
            os.close(here)
            here = inner
        yield here, name
    finally:
        os.close(here)


def remove_empty(top: int, path: str) -> None:
    """git keeps no empty directories, and neither does a removal."""
    above = path.rpartition("/")[0]
    while above:
        with contextlib.suppress(OSError), parent_of(top, above) as (parent, name):
            os.rmdir(name, dir_fd=parent)
        above = above.rpartition("/")[0]


def aside_of(root: str) -> str:
    return f"{ASIDE}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"


def open_aside(top: int, root: str, state: str) -> int:
    """A directory of ours on the file system of the clone: files are moved from it and into it, never copied."""
    os.makedirs(state, mode=0o700, exist_ok=True)  # noqa: PTH103
    own_name = aside_of(root)
    for place in (state, f"{root.rstrip('/')}/.."):
        where = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.fstat(where).st_dev != os.fstat(top).st_dev:
                continue
            with contextlib.suppress(FileExistsError):
                os.mkdir(own_name, 0o700, dir_fd=where)
            found = os.open(own_name, DIRECTORY, dir_fd=where)
        finally:
            os.close(where)
        if os.fstat(found).st_uid != os.geteuid():
            raise PermissionError(f"{own_name} beside {root} is somebody else's")
        return found
    raise OSError(f"{root} is a file system of its own: nothing can be moved into it from beside it")


def clear(aside: int) -> None:
    for name in os.listdir(aside):
        try:
            os.unlink(name, dir_fd=aside)
        except IsADirectoryError:  # somebody's, which could not be put back: no number of ours may meet it
            if not name.startswith("kept-"):
                os.rename(name, f"kept-{time.time_ns()}", src_dir_fd=aside, dst_dir_fd=aside)


def opener(directory: int) -> Any:
    return lambda name, flags: os.open(name, flags, dir_fd=directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
