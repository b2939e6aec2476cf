"""Repositories of a directory that lie elsewhere: of a worktree, of a submodule, and of submodules in it.

In the copy each becomes a whole repository at its place. A file `.git` says where the repository is, and whoever can
write in the directory can write that file. So it counts only where the repository itself says that the directory is its
own: no file of somebody else's makes us read another repository of the user's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.clones.repository import REPOSITORY, copied_configuration, is_of_repository
from engine.errors import EngineError
from engine.workspaces.git_configuration import entries, read_beginning
from vmm.beneath import DIRECTORY, PASS, open_beneath
from vmm.walk import Found, TreeChanged, TreeLimits, walk

MOST_SUBMODULES = 200
_OWN = ("HEAD", "index", "ORIG_HEAD")  # of a worktree; the rest is the repository's
_GITDIR = re.compile(r"gitdir: ([^\n\r\0]+)\r?\n?")


@dataclass(frozen=True)
class Linked:
    """The repository of `path` in the copied directory ("" for itself): `own` is its git directory, `common` the one
    that has the objects. They are one and the same unless it is a worktree. Both are real paths."""

    path: str
    own: Path
    common: Path

    @property
    def place(self) -> str:
        return f"{self.path}/{REPOSITORY}" if self.path else REPOSITORY

    def found(self, limits: TreeLimits) -> Iterator[tuple[Found, bytes | None]]:
        """What goes into the copy, under its name there; with content where that is not read from a file.

        Raises EngineError where it cannot be read, and what `vmm.walk` raises.
        """
        yield Found(self.place, "directory", 0o755, 0.0), None
        for found in self._of(self.common, limits):
            if self.own == self.common or found.name not in _OWN:
                yield replace(found, name=f"{self.place}/{found.name}"), None
        if self.own != self.common:
            for found in self._of(self.own, limits):
                if found.name in _OWN:
                    yield replace(found, name=f"{self.place}/{found.name}"), None
        configuration = copied_configuration(self.common / "config").encode()
        yield Found(f"{self.place}/config", "file", 0o644, 0.0, size=len(configuration)), configuration

    def _of(self, directory: Path, limits: TreeLimits) -> Iterator[Found]:
        root = os.open("/", PASS)
        try:
            opened = open_beneath(root, str(directory).lstrip("/"), DIRECTORY)
        except OSError as error:
            raise EngineError(f"{directory} cannot be copied: {error.strerror}") from error
        finally:
            os.close(root)
        try:
            for found in walk(opened, ".", lambda name, below: not is_of_repository(name), limits):
                if found.name:
                    yield found
        except TreeChanged as error:
            raise TreeChanged(f"{self.place}/{error.filename or ''}") from None
        finally:
            os.close(opened)


def linked_repository(directory: Path, path: str) -> Linked | None:
    """The repository of the real `directory`, whose `.git` is a file or, for a submodule, perhaps a directory.

    None where there is none that knows the directory, or one that borrows objects of another.
    """
    link = directory / REPOSITORY
    if link.is_symlink():
        return None
    if link.is_dir():
        found = Linked(path, link, link)
    else:
        match = _GITDIR.fullmatch(read_beginning(link) or "")
        if match is None:
            return None
        own = Path(os.path.realpath(directory / match[1]))
        said = read_beginning(own / "commondir")
        common = Path(os.path.realpath(own / said.rstrip("\r\n"))) if said else own
        if not _is_known(own, common, directory):
            return None
        found = Linked(path, own, common)
    return None if (found.common / "objects/info/alternates").exists() else found


def _is_known(own: Path, common: Path, directory: Path) -> bool:
    if own != common:  # of a worktree
        said = (read_beginning(own / "gitdir") or "").rstrip("\r\n")
        back = Path(os.path.realpath(own / said)) if said else None
        listed = own.parent == common / "worktrees"
        return listed and back is not None and back == Path(os.path.realpath(directory)) / REPOSITORY
    configuration = entries(read_beginning(own / "config") or "")
    values = [value for section, key, value in configuration if (section, key) == ("core", "worktree")]
    return bool(values) and os.path.realpath(own / values[-1]) == os.path.realpath(directory)
