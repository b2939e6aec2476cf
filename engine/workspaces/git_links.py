"""A project whose `.git` is a file: a worktree, or a submodule. The repository itself is in another directory.

A machine that does not see that directory has no git for the project: every command of git ends with "not a git
repository". A mount of the repository at the place where `.git` says that it is revives it.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MOST_BYTES = 4096
SUBMODULE = "a submodule"


class GitLink(NamedTuple):
    """Where the repository is. `mounts` are pairs of a source on this host and a target that let git work."""

    kind: str  # a worktree or a submodule
    repository: Path
    mounts: tuple[tuple[str, str], ...]


def git_link(project: Path, target: str) -> GitLink | None:
    """The repository of the directory `project`, which is mounted on `target`; None where `.git` is no such file."""
    try:
        text = _read(project / ".git")
    except (OSError, ValueError):
        return None
    match = re.fullmatch(r"gitdir: ([^\n\r\0]+)\r?\n?", text)
    if match is None:
        return None
    written = match[1]
    gitdir = Path(os.path.normpath(project / written))
    if "worktrees" in gitdir.parts[-2:-1]:
        repository = gitdir.parent.parent
        if written.startswith("/"):
            return GitLink("a worktree", repository, ((_source(repository, project), str(repository)),))
        inside = posixpath.normpath(f"{target}/{written}/../..")
        return GitLink("a worktree", repository, ((_source(repository, project), inside),))
    # A submodule's repository says where its files are, relative to itself: both need the places that they have here.
    top = next((above for above in gitdir.parents if above.name == ".git"), gitdir).parent
    if not project.is_relative_to(top) or project == top:
        return GitLink("a linked directory", gitdir, ((_source(gitdir, project), str(gitdir)),))
    below = PurePosixPath(target, *project.relative_to(top).parts)
    source = _source(top / ".git", project)
    return GitLink(SUBMODULE, gitdir, ((".", str(below)), (source, f"{target}/.git")))


def _source(path: Path, project: Path) -> str:
    return os.path.relpath(path, project)


def _read(path: Path) -> str:
    """The beginning of a regular file. Raises OSError and ValueError; waits for nothing, also not for a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is no regular file")
        return os.read(descriptor, MOST_BYTES).decode("utf-8")
    finally:
        os.close(descriptor)
