"""The directory of a project, held open. Whatever is copied into guests is looked up and read beneath its descriptor.

The guest of a sandbox may write in the project. Between two look-ups of the same path it can put a link there that
leads to the user's home directory. So the project is opened once, and everything below it by `open_beneath`, which
follows no links.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Self

from engine.errors import EngineError
from engine.project.digest import TreeDigest
from engine.project.dockerignore import MAX_BYTES, match_dockerignore, parse_dockerignore
from engine.project.hidden import hidden_by, leave_out_hidden
from engine.project.patterns import match_pattern
from engine.project.pieces import Piece
from vmm.beneath import DIRECTORY, FILE, PASS, LinkInTheWay, identity, open_beneath, parent_beneath, read_link
from vmm.walk import Found, Kind, LeaveOut, TooLarge, TreeChanged, TreeLimits, nothing, walk

# A copy goes through an emulated serial port into the guest, and the files are read twice. More than this takes hours,
# and is a mistake (a sparse disk image, a data directory) or a trap.
LIMITS = TreeLimits(entries=500_000, size=4 * 1024**3)
ATTEMPTS = 3  # at reading or copying files that change in the meantime


class PathError(EngineError):
    """The file names a path that cannot be copied: it is missing, leads through a link, or is of the wrong kind."""

    def __init__(self, brief: str, hint: str | None = None) -> None:
        super().__init__(brief, hint=hint, exit_code=2)


class MissingError(PathError):
    """There is nothing at that path."""


class ContentChanged(EngineError):
    """The content that was copied does not have the expected key. `path` is relative to the project."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} changed while it was copied", hint="run the command again")
        self.path = path


def keeps_changing(path: str) -> EngineError:
    """The error after ATTEMPTS attempts in which the content changed each time."""
    return EngineError(
        f"{path} keeps changing while it is copied",
        hint="stop what writes there (an agent, a build, an editor), or leave it out by a .dockerignore",
    )


class ProjectTree:
    """An open project. Close it, or use it as a context manager. `opened` keeps one open until the process ends."""

    def __init__(self, path: Path, descriptor: int, limits: TreeLimits = LIMITS) -> None:
        self.path = path
        self._descriptor = descriptor
        self._limits = limits

    @classmethod
    def open(cls, path: Path, expected: tuple[int, int] | None = None) -> Self:
        """Open the directory at `path`, which is absolute and has no links in it.

        `expected` is the `identity` that the directory must have. Raises EngineError (exit code 2) when the directory
        cannot be opened, or when another one is at its path.
        """
        root = os.open("/", PASS)
        try:
            descriptor = open_beneath(root, str(path).lstrip("/"), DIRECTORY)
        except OSError as error:
            raise EngineError(f"cannot open the project {path}: {_reason(error)}", exit_code=2) from error
        finally:
            os.close(root)
        if expected is not None and identity(os.fstat(descriptor)) != expected:
            os.close(descriptor)
            raise EngineError(f"{path} is another directory than `up` saw", hint="run `sandbox up` again", exit_code=2)
        return cls(path, descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def identity(self) -> tuple[int, int]:
        """The identity of this directory, with which another process checks that it has opened the same one."""
        return identity(os.fstat(self._descriptor))

    def kind(self, path: str) -> Kind:
        """What is at `path` (relative). Raises PathError when nothing is there, and when any part of it is a link."""
        with self._parent(path) as (directory, name):
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                raise LinkInTheWay(path, os.readlink(name, dir_fd=directory))
            return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"

    def exists(self, path: str) -> bool:
        """Whether anything is at `path`, even a link. Raises PathError when a directory on the way is a link."""
        try:
            with self._parent(path) as (directory, name):
                os.stat(name, dir_fd=directory, follow_symlinks=False)
        except MissingError:
            return False
        return True

    def read(self, path: str, at_most: int) -> bytes:
        """The first `at_most` + 1 bytes of a regular file: one byte more shows that it is too large.

        Raises PathError, for everything that is no regular file without opening it.
        """
        if self.kind(path) != "file":
            raise PathError(f"{path!r} is not a regular file")
        with self._explain_errors(path), os.fdopen(open_beneath(self._descriptor, path, FILE), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise PathError(f"{path!r} is not a regular file")
            return file.read(at_most + 1)

    def key(self, piece: Piece) -> str:
        """The key of the piece's content as it is now.

        Raises PathError, and EngineError for a content that cannot be copied, is too large or keeps changing.
        """
        for left in reversed(range(ATTEMPTS)):
            digest = TreeDigest(piece.path)
            try:
                for _ in self.entries(piece, digest):
                    pass
            except TreeChanged as error:
                if not left:
                    raise keeps_changing(posixpath.normpath(posixpath.join(piece.path, error.filename))) from None
                continue
            return digest.key()
        raise AssertionError("the last attempt returns or raises")

    def entries(self, piece: Piece, digest: TreeDigest) -> Generator[Found, None, None]:
        """All entries of the piece, to be hashed or sent. `digest` covers each entry when it has been read.

        Raises what `key` raises, and TreeChanged.
        """
        self.check_hidden(piece)
        with self._parent(piece.path) as (directory, name), self._explain_errors(piece.path, within=True):
            if (target := read_link(directory, name)) is not None:
                raise LinkInTheWay(piece.path, target)
            yield from digest.follow(walk(directory, name, self._leave_out(piece), self._limits))

    def matches(self, piece: Piece) -> bool:
        """Whether the piece has any file or link. Stops at the first one. Raises what `entries` raises."""
        with self._parent(piece.path) as (directory, name), self._explain_errors(piece.path, within=True):
            with contextlib.closing(walk(directory, name, self._leave_out(piece), self._limits)) as found:
                return any(one.kind != "directory" for one in found)

    def check_ignores(self, piece: Piece) -> None:
        """Raises PathError or IgnoreFileError when the piece's ignore file cannot be read."""
        self._leave_out(piece)

    def check_hidden(self, piece: Piece) -> None:
        """Raises PathError when a mount hides the piece as a whole, and what `kind` raises."""
        if piece.hidden and (place := hidden_by(piece, directory=self.kind(piece.path) == "directory")):
            hint = f"take it out of {place}, if the guest may read it"
            raise PathError(f"{piece.path!r} is hidden by {place}, and would be copied into the guest", hint)

    def _leave_out(self, piece: Piece) -> LeaveOut:
        return leave_out_hidden(piece, self._ignored(piece))

    def _ignored(self, piece: Piece) -> LeaveOut:
        if piece.pattern:
            return match_pattern(piece.pattern)
        for file in piece.ignores:
            if self.exists(file):
                return match_dockerignore(parse_dockerignore(self.read(file, MAX_BYTES), file), piece.keep)
        return match_dockerignore(piece.leave_out, piece.keep) if piece.leave_out else nothing

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        with self._explain_errors(path):
            directory, name = parent_beneath(self._descriptor, path)
            try:
                yield directory, name
            finally:
                os.close(directory)

    @contextlib.contextmanager
    def _explain_errors(self, path: str, within: bool = False) -> Iterator[None]:
        """Turn system errors about `path`, or about a walk `within` it, into errors for people, with hints."""
        try:
            yield
        except LinkInTheWay as error:
            link = repr(error.component)
            brief = f"{link} is a link" if error.component == path else f"{path!r} leads through the link {link}"
            hint = "links are not followed, since a guest may change them: name the file or directory itself"
            raise PathError(f"{brief} (to {error.target})", hint) from None
        except FileNotFoundError:
            raise MissingError(f"{path!r} does not exist in the project") from None
        except TreeChanged:
            raise
        except TooLarge as error:
            place = posixpath.normpath(posixpath.join(path, error.filename or ""))
            hint = "leave out what is not needed (.dockerignore), or name a narrower directory"
            raise EngineError(f"{path!r} cannot be copied: {place} {error.what}", hint=hint, exit_code=2) from None
        except (OSError, ValueError) as error:
            name = str(getattr(error, "filename", None) or "")
            place = posixpath.normpath(posixpath.join(path, name)) if within else name or path
            raise EngineError(f"cannot read {place}: {_reason(error)}") from error


@functools.cache
def opened(path: Path) -> ProjectTree:
    """The project at `path`, opened at the first call and kept open until the process ends. Raises EngineError.

    So a whole command works on the same directory, even if another one is put in its place in the meantime.
    """
    return ProjectTree.open(path)


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
