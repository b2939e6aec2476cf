"""The directory of a project, held open: what is copied into guests is looked up and read beneath its descriptor.

The guest of a sandbox may write in the project, so a path is no proof of anything: between two look-ups it can be made
to lead to the user's home directory. The project is opened once, everything below it by `open_beneath`, without links.
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
from engine.project.patterns import match_pattern
from engine.project.pieces import Piece
from vmm.beneath import DIRECTORY, FILE, PASS, LinkInTheWay, identity, open_beneath, parent_beneath, read_link
from vmm.walk import Found, Kind, LeaveOut, TooLarge, TreeChanged, TreeLimits, nothing, walk

# What is copied goes through an emulated serial port into the guest, and is read twice: more than this takes hours, and
# is a mistake (a sparse disk image, a data directory) or a trap.
LIMITS = TreeLimits(entries=500_000, size=4 * 1024**3)
ATTEMPTS = 3  # of reading or copying what changes meanwhile


class PathError(EngineError):
    """A path of the file that cannot be copied: missing, through a link, of the wrong kind. The file is to blame."""

    def __init__(self, brief: str, hint: str | None = None) -> None:
        super().__init__(brief, hint=hint, exit_code=2)


class MissingError(PathError):
    """There is nothing at that path."""


class ContentChanged(EngineError):
    """What was copied is not what the key says. `path` is that of the project."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} changed while it was copied", hint="run the command again")
        self.path = path


def keeps_changing(path: str) -> EngineError:
    """What ends the attempts to read or copy the same content twice."""
    return EngineError(
        f"{path} keeps changing while it is copied",
        hint="stop what writes there (an agent, a build, an editor), or leave it out by a .dockerignore",
    )


class ProjectTree:
    """An open project. Close it, or use it as a context manager; `opened` is for the life of a process."""

    def __init__(self, path: Path, descriptor: int, limits: TreeLimits = LIMITS) -> None:
        self.path = path
        self._descriptor = descriptor
        self._limits = limits

    @classmethod
    def open(cls, path: Path, expected: tuple[int, int] | None = None) -> Self:
        """Open the directory at `path`, absolute and without links.

        `expected` is the identity of the one that is meant. Raises EngineError (exit code 2) where it is another, or
        cannot be opened.
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
        """What another process compares that opens the same path."""
        return identity(os.fstat(self._descriptor))

    def kind(self, path: str) -> Kind:
        """What is at `path` (relative). Raises PathError when nothing is, and for a link on the way or at its end."""
        with self._parent(path) as (directory, name):
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                raise LinkInTheWay(path, os.readlink(name, dir_fd=directory))
            return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"

    def exists(self, path: str) -> bool:
        """Whether anything is called so, a link included. Raises PathError for a link on the way."""
        try:
            with self._parent(path) as (directory, name):
                os.stat(name, dir_fd=directory, follow_symlinks=False)
        except MissingError:
            return False
        return True

    def read(self, path: str, at_most: int) -> bytes:
        """The first `at_most` + 1 bytes of a regular file; nothing else is opened. Raises PathError."""
        if self.kind(path) != "file":
            raise PathError(f"{path!r} is not a regular file")
        with self._told(path), os.fdopen(open_beneath(self._descriptor, path, FILE), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise PathError(f"{path!r} is not a regular file")
            return file.read(at_most + 1)

    def key(self, piece: Piece) -> str:
        """The key of the piece's content as it is now.

        Raises PathError, EngineError for what cannot be copied, is too large or does not stop to change.
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
        """Everything of the piece, for whoever hashes or sends it: taken in by `digest` as it is read.

        Raises as `key`, and TreeChanged.
        """
        with self._parent(piece.path) as (directory, name), self._told(piece.path, within=True):
            if (target := read_link(directory, name)) is not None:
                raise LinkInTheWay(piece.path, target)
            yield from digest.follow(walk(directory, name, self._leave_out(piece), self._limits))

    def matches(self, piece: Piece) -> bool:
        """Whether there is any file or link in it. Stops at the first; raises as `entries`."""
        with self._parent(piece.path) as (directory, name), self._told(piece.path, within=True):
            with contextlib.closing(walk(directory, name, self._leave_out(piece), self._limits)) as found:
                return any(one.kind != "directory" for one in found)

    def check_ignores(self, piece: Piece) -> None:
        """Raises PathError and IgnoreFileError when what says what is left out cannot be read."""
        self._leave_out(piece)

    def _leave_out(self, piece: Piece) -> LeaveOut:
        if piece.pattern:
            return match_pattern(piece.pattern)
        for file in piece.ignores:
            if self.exists(file):
                return match_dockerignore(parse_dockerignore(self.read(file, MAX_BYTES), file), piece.keep)
        return match_dockerignore(piece.leave_out, piece.keep) if piece.leave_out else nothing

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        with self._told(path):
            directory, name = parent_beneath(self._descriptor, path)
            try:
                yield directory, name
            finally:
                os.close(directory)

    @contextlib.contextmanager
    def _told(self, path: str, within: bool = False) -> Iterator[None]:
        """Errors of the system about `path`, or of a walk `within` it, in words, with what is to be done about them."""
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
    """The project at `path`, opened at the first call and held for the life of this process. Raises EngineError.

    All of one command see the same directory, whoever puts another in its place meanwhile.
    """
    return ProjectTree.open(path)


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
