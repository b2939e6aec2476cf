"""Tar streams in and out of directories. Unpacking trusts nothing in the archive."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, cast

from vmm.channel.errors import GuestError
from vmm.channel.tar_reader import DIRECTORY as DIRECTORY_KIND
from vmm.channel.tar_reader import FILE as FILE_KIND
from vmm.channel.tar_reader import LINK as LINK_KIND
from vmm.channel.tar_reader import TarMember, TarReader
from vmm.walk import Found

GUEST_UID = 1000
BLOCK = 1 << 16
MAX_DEPTH = 128  # directories within each other, each of which is open while those in it are written
SKIPPED_LINES, SKIPPED_LENGTH = 200, 600  # told of what was left out; the guest chooses how much that is
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Copied(NamedTuple):
    """What a copy did. `skipped`: what was left out, one line each with the reason."""

    files: int
    size: int
    skipped: tuple[str, ...]


class Sender:
    """The file object that tarfile writes to."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.write = send


def pack(entries: Iterable[Found], name: str, send: Callable[[bytes], None]) -> Copied:
    """Send a tar stream of `entries` (`vmm.walk`), their root called `name`; an empty name stands for its contents.

    What is neither a file, a directory nor a link is skipped. Raises OSError as the walk does, TreeChanged among them.
    """
    packer = Packer()
    with tarfile.open(
        fileobj=cast("IO[bytes]", Sender(send)), mode="w|", bufsize=BLOCK, format=tarfile.PAX_FORMAT
    ) as tar:
        for found in entries:
            if member_name := "/".join(filter(None, (name, found.name))):
                packer.add(tar, found, member_name)
    return Copied(packer.files, packer.size, tuple(packer.skipped))


class Packer:
    """Adds entries to a tar stream, all owned by the guest's user, and counts."""

    TYPES: ClassVar = {"directory": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE}

    def __init__(self) -> None:
        self.files = self.size = 0
        self.skipped: list[str] = []

    def add(self, tar: tarfile.TarFile, found: Found, name: str) -> None:
        if found.kind == "other":
            self.skipped.append(f"{name}: neither a file, directory nor symbolic link")
            return
        member = tarfile.TarInfo(name)
        member.type, member.linkname = self.TYPES[found.kind], found.link
        member.mode, member.mtime = found.mode, found.mtime
        member.uid = member.gid = GUEST_UID
        if found.content is not None:
            member.size = found.size
            self.files += 1
            self.size += member.size
        tar.addfile(member, cast("IO[bytes] | None", found.content))
        cast("Any", tar).members.clear()  # it would remember them all


def unpack(
    receive: Callable[[], bytes],
    parent: Path,
    member_root: str,
    name: str,
    limit: int | None,
    directory: int | None = None,
) -> Copied:
    """Unpack a tar stream whose members all lie in `member_root`, as `parent / name` (or into `parent`, name empty).

    `directory` is the descriptor of `parent` where it is held open already; then the path is for messages only. No link
    is ever followed, as each directory on the way is opened by its parent's descriptor. Raises GuestError, and
    EndedEarly where the guest's tar may have said why.
    """
    reader = TarReader(receive)
    try:
        with (
            _open_directory(parent, directory) as root,
            contextlib.closing(Target(root, limit, depth=1 if name else 0)) as target,
        ):
            while (member := reader.next()) is not None:
                path = _safe_parts(member.name, member_root)
                target.put(reader, member, [name, *path] if name else path)
            target.finish()
    except OSError as error:
        raise GuestError(f"{parent / name}: could not be written: {error}") from None
    return Copied(target.files, target.size, target.skipped)


def _safe_parts(name: str, member_root: str) -> list[str]:
    """The member's path below `member_root`, which is one name, or "." for none. GuestError for a hostile one."""
    parts = name.split("/")
    while member_root == "." and parts and parts[0] == ".":
        del parts[0]
    if parts and parts[-1] == "":
        del parts[-1]
    if member_root != ".":
        if not parts or parts[0] != member_root:
            raise GuestError(f"the guest sent a name that was not asked for: {name!r}")
        del parts[0]
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise GuestError(f"the guest sent a name that leads elsewhere: {name!r}")
    return parts


@contextmanager
def _open_directory(path: Path, held: int | None) -> Iterator[int]:
    descriptor = os.dup(held) if held is not None else os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Entered(NamedTuple):
    """An open directory on the way; `member` is what the archive says of it."""

    name: str
    descriptor: int
    member: TarMember | None = None


class Target:
    """A directory being filled. Holds open the directories on the way to what was written last, and no others."""

    def __init__(self, root: int, limit: int | None, *, depth: int) -> None:
        """`depth`: how many names at the start of each path are not part of what is copied."""
        self.files = self.size = 0
        self._skipped: list[str] = []
        self._more_skipped = 0
        self._root = root
        self._limit = limit
        self._depth = depth
        self._entered: list[Entered] = []

    @property
    def skipped(self) -> tuple[str, ...]:
        more = [f"... and {self._more_skipped} more"] if self._more_skipped else []
        return (*self._skipped, *more)

    def put(self, reader: TarReader, member: TarMember, path: list[str]) -> None:
        if not path:
            return  # the root itself, which exists and is not ours to change
        if len(path) - self._depth > MAX_DEPTH:
            raise GuestError(f"the copy has directories nested deeper than {MAX_DEPTH}")
        parent = self._enter(path[:-1])
        if member.kind == DIRECTORY_KIND:
            self._make_directory(parent, path[-1], member)
        elif member.kind == FILE_KIND:
            self._write_file(parent, path[-1], reader, member)
        elif member.kind == LINK_KIND:
            self._make_link(parent, path, member)
        else:
            self._skip(f"{'/'.join(path)}: neither a file, directory nor symbolic link")

    def finish(self) -> None:
        """All directories get their mode and time."""
        while self._entered:
            self._leave()

    def close(self) -> None:
        while self._entered:
            os.close(self._entered.pop().descriptor)

    def _enter(self, path: list[str]) -> int:
        """The directory at `path`, opened; those that are not on the way to it are left."""
        common = 0
        for entered, name in zip(self._entered, path, strict=False):
            if entered.name != name:
                break
            common += 1
        while len(self._entered) > common:
            self._leave()
        try:
            for name in path[common:]:
                self._entered.append(Entered(name, os.open(name, DIRECTORY, dir_fd=self._here())))
        except NotADirectoryError:
            raise GuestError(f"{'/'.join(path)}: a link or file is in the way of a directory") from None
        return self._here()

    def _here(self) -> int:
        return self._entered[-1].descriptor if self._entered else self._root

    def _leave(self) -> None:
        """A directory gets its mode and time when all is in it: earlier, a read-only one could not be filled."""
        left = self._entered.pop()
        try:
            if left.member:
                os.fchmod(left.descriptor, safe_mode(left.member.mode) | 0o700)
                os.utime(left.descriptor, ns=(left.member.mtime_ns,) * 2)
        finally:
            os.close(left.descriptor)

    def _skip(self, line: str) -> None:
        if len(self._skipped) < SKIPPED_LINES:
            self._skipped.append(line if len(line) <= SKIPPED_LENGTH else f"{line[: SKIPPED_LENGTH - 4]} ...")
        else:
            self._more_skipped += 1

    def _make_directory(self, parent: int, name: str, member: TarMember) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        try:
            descriptor = os.open(name, DIRECTORY, dir_fd=parent)
        except NotADirectoryError:
            raise GuestError(f"{name}: a link or file is in the way of a directory") from None
        self._entered.append(Entered(name, descriptor, member))

    def _write_file(self, parent: int, name: str, reader: TarReader, member: TarMember) -> None:
        self.size += member.size
        if self._limit is not None and self.size > self._limit:
            raise GuestError(f"the copy is larger than {self._limit} bytes")
        self._remove(parent, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb", buffering=0) as file:
            while block := reader.read(BLOCK):
                write_all(file, block)
            os.fchmod(file.fileno(), safe_mode(member.mode))
            os.utime(file.fileno(), ns=(member.mtime_ns,) * 2)
        self.files += 1

    def _make_link(self, parent: int, path: list[str], member: TarMember) -> None:
        if not stays_inside(path[self._depth :], member.link):
            self._skip(f"{'/'.join(path)}: a link to {member.link}, which is not in what was copied")
            return
        self._remove(parent, path[-1])
        os.symlink(member.link, path[-1], dir_fd=parent)
        os.utime(path[-1], ns=(member.mtime_ns,) * 2, dir_fd=parent, follow_symlinks=False)

    @staticmethod
    def _remove(parent: int, name: str) -> None:
        try:
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise GuestError(f"{name}: a directory is in the way of a file")
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass


def stays_inside(path: list[str], link: str) -> bool:
    """Whether a link at `path` of the copied tree (empty: the tree is that link) can only lead into that tree.

    Any ".." must come first, where it climbs real directories. After a name it could climb out of wherever that name,
    being another link, leads.
    """
    parts = [part for part in link.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    return bool(path) and not link.startswith("/") and climbs < len(path) and ".." not in parts[climbs:]


def write_all(file: IO[bytes], data: bytes) -> None:
    """A file without a buffer may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def safe_mode(mode: int) -> int:
    return mode & 0o777 & ~0o022
