"""npm packages unpacked on this host, as data: nothing in them is run here.

Only files, directories and links within the package are taken. All directories and files are written before the first
link is made, so that no name leads through one. The package's digest was checked, and yet nothing in it is trusted.
"""

from __future__ import annotations

import errno
import posixpath
import tarfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from engine.errors import EngineError
from vmm.channel.archive import stays_inside

BLOCK = 1 << 18
_MOST_BYTES = 8 << 30  # unpacked
_MOST_FILES = 500_000


@dataclass
class PackageTree:
    """A directory that packages are unpacked into; `finish` makes the links. `cancelled` ends the work early."""

    root: Path
    cancelled: threading.Event = field(default_factory=threading.Event)
    _links: dict[str, str] = field(default_factory=dict)
    _files: int = 0
    _bytes: int = 0

    def unpack(self, package: Path, directory: str, *, strip: bool = False) -> None:
        """Unpack the gzipped tarball into `directory` (relative). `strip` leaves the first part of its names away.

        Raises EngineError for a package that cannot be read or has no place here, and OSError (disk full).
        """
        (self.root / directory).mkdir(parents=True, exist_ok=True)
        try:
            with tarfile.open(package, "r|gz", bufsize=BLOCK) as archive:
                for member in archive:
                    self._take(archive, member, directory, strip)
        except (tarfile.TarError, EOFError, zlib.error, UnicodeError) as error:
            raise EngineError(f"{package.name} is no readable package: {error}") from error
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise EngineError(f"{package.name} has a file and something else of one name") from error
        except ValueError as error:  # a zero in a name
            raise EngineError(f"{package.name} is no readable package: {error}") from error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise EngineError(f"{package.name} has a name that is too long") from error

    def add_link(self, name: str, target: str) -> None:
        """Have the link `name` (relative) made by `finish`, unless something is there by then."""
        self._links.setdefault(name, target)

    def make_executable(self, name: str) -> None:
        """Packages are not always made where files have that permission."""
        (self.root / name).chmod(0o755)

    def remove(self, name: str) -> None:
        """Take a file away again. Raises EngineError when it is not there: the package is another than expected."""
        try:
            (self.root / name).unlink()
        except OSError as error:
            raise EngineError(f"{name} cannot be left out: {error.strerror}") from error

    def find(self, directory: str, pattern: str) -> str:
        """The one file below `directory` that the pattern names, relative to the root. Raises EngineError."""
        found = [path for path in sorted((self.root / directory).glob(pattern)) if path.is_file()]
        if len(found) != 1:
            names = ", ".join(path.name for path in found[:5]) or "none"
            raise EngineError(f"{pattern} should be one file of the package; there are {len(found)}: {names}")
        return str(found[0].relative_to(self.root))

    def finish(self) -> None:
        """Make the links. Raises EngineError for a link in the place of something else."""
        for name, target in self._links.items():
            path = self.root / name
            if self._links.keys() & {str(above) for above in PurePosixPath(name).parents}:
                raise EngineError(f"the package has a link, and something below it: {name[:200]}")
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or path.exists():
                raise EngineError(f"the package has a link and something else of one name: {name[:200]}")
            path.symlink_to(target)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo, directory: str, strip: bool) -> None:
        self._count(member)
        name = _within(member.name)
        if strip:
            name = name.partition("/")[2]
            if not name:
                return
        path = self.root / directory / name
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.issym():
            # ".." comes first or not at all: after a name it would climb out of wherever that name, a link, leads.
            if not stays_inside(name.split("/"), member.linkname):
                raise EngineError(f"the package has a link that leads out of it: {member.name[:200]}")
            self._links[posixpath.join(directory, name)] = member.linkname
        elif member.isreg():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(archive, member, path)
        else:
            raise EngineError(f"the package has something in it that is no file: {member.name[:200]}")

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        source = archive.extractfile(member)
        assert source is not None, "it is a regular file"
        with path.open("wb") as target:
            while block := source.read(BLOCK):
                if self.cancelled.is_set():
                    raise EngineError("the unpacking was given up")
                target.write(block)
        path.chmod(0o755 if member.mode & 0o111 else 0o644)

    def _count(self, member: tarfile.TarInfo) -> None:
        self._files, self._bytes = self._files + 1, self._bytes + member.size
        if self._files > _MOST_FILES or self._bytes > _MOST_BYTES:
            raise EngineError("the packages hold more than an agent can need")


def link_programs(tree: PackageTree, where: str, programs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Link the programs of the package at `where`, a path with node_modules in it, as npm does: in .bin beside it.

    Yields their names and files, relative to the root. A program that is not there is left out, as npm does.
    """
    beside = posixpath.join(where.rpartition("node_modules/")[0], "node_modules/.bin")
    for name, path in programs.items():
        file = posixpath.join(where, _within(path))
        if (tree.root / file).is_file():
            tree.make_executable(file)
            tree.add_link(posixpath.join(beside, name), posixpath.relpath(file, beside))
            yield name, file


def _within(name: str) -> str:
    clean = posixpath.normpath(name)
    if name.startswith("/") or clean.split("/")[0] == "..":
        raise EngineError(f"the package has a name that leads out of it: {name[:200]}")
    return clean
