"""Tar streams in and out of directories. Unpacking trusts nothing in the archive."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, cast

from vmm.channel.copy import Copied
from vmm.channel.errors import GuestError
from vmm.walk import Found

GUEST_UID = 1000
BLOCK = 1 << 16
MAX_EXTENSION = 1 << 20  # of a long name's or pax header, which tarfile reads into memory whole
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"X")


class Sender:
    """The file object that tarfile writes to."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.write = send


class Receiver:
    """The file object that tarfile reads from: whole chunks, cut to the size it asks for."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts = []
        while size and (chunk := self._rest or self._receive()):
            parts.append(chunk[:size])
            self._rest = chunk[size:]
            size -= len(parts[-1])
        return b"".join(parts)


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


class Member(tarfile.TarInfo):
    """A header that may not make tarfile read megabytes of names into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type in EXTENSIONS and member.size > MAX_EXTENSION:
            raise GuestError("the guest sent an archive with an absurd header")
        return member


def unpack(
    receive: Callable[[], bytes],
    parent: Path,
    member_root: str,
    name: str,
    limit: int | None,
    directory: int | None = None,
) -> Copied:
    """Unpack a tar stream whose members all lie in `member_root`, as `parent / name` (or into `parent`, name empty).

    `directory` is the descriptor of `parent` where it is held open already; then the path is for messages only.

    Not `tarfile.extractall(filter="data")`: in several 3.11 and 3.12 releases that filter can be led astray by chains
    of symlinks. Here no link is ever followed, as each directory on the way is opened by its parent's descriptor.
    """
    stream = cast("IO[bytes]", Receiver(receive))
    try:
        with (
            tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK, tarinfo=Member) as tar,
            _open_directory(parent, directory) as root,
        ):
            target = Target(root, limit, depth=1 if name else 0)
            while (member := tar.next()) is not None:
                cast("Any", tar).members.clear()
                path = _safe_parts(member.name, member_root)
                target.put(tar, member, [name, *path] if name else path)
            target.finish()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise GuestError("the guest sent an archive that cannot be read", str(error)) from None
    except OSError as error:
        raise GuestError(f"{parent / name}: could not be written: {error}") from None
    while receive():
        pass  # padding after the end of the archive
    return Copied(target.files, target.size, tuple(target.skipped))


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


class Target:
    """A directory being filled."""

    def __init__(self, root: int, limit: int | None, *, depth: int) -> None:
        """`depth`: how many names at the start of each path are not part of what is copied."""
        self.files = self.size = 0
        self.skipped: list[str] = []
        self._root = root
        self._limit = limit
        self._depth = depth
        self._directories: list[tuple[list[str], int, float]] = []

    def put(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: list[str]) -> None:
        if not path:
            return  # the root itself, which exists and is not ours to change
        with self._parent(path) as parent:
            if member.isdir():
                self._make_directory(parent, path, member)
            elif member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse():
                self._write_file(parent, path[-1], tar, member)
            elif member.issym():
                self._make_link(parent, path, member)
            else:
                self.skipped.append(f"{'/'.join(path)}: neither a file, directory nor symbolic link")

    def finish(self) -> None:
        """Directories get their mode and time last: earlier, a read-only one could not be filled."""
        for path, mode, mtime in reversed(self._directories):
            with self._open([*path]) as descriptor:
                os.fchmod(descriptor, mode)
                os.utime(descriptor, (mtime, mtime))

    @contextmanager
    def _open(self, path: list[str]) -> Iterator[int]:
        current = os.dup(self._root)
        try:
            for part in path:
                inner = os.open(part, DIRECTORY, dir_fd=current)
                os.close(current)
                current = inner
            yield current
        finally:
            os.close(current)

    @contextmanager
    def _parent(self, path: list[str]) -> Iterator[int]:
        try:
            with self._open(path[:-1]) as descriptor:
                yield descriptor
        except NotADirectoryError:
            raise GuestError(f"{'/'.join(path)}: a link or file is in the way of a directory") from None

    def _make_directory(self, parent: int, path: list[str], member: tarfile.TarInfo) -> None:
        try:
            os.mkdir(path[-1], 0o700, dir_fd=parent)
        except FileExistsError:
            os.close(os.open(path[-1], DIRECTORY, dir_fd=parent))
        self._directories.append((path, safe_mode(member.mode) | 0o700, member.mtime))

    def _write_file(self, parent: int, name: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self.size += member.size
        if self._limit is not None and self.size > self._limit:
            raise GuestError(f"the copy is larger than {self._limit} bytes")
        self._remove(parent, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        content = cast("Any", tar.extractfile(member))
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb", buffering=0) as file:
            left = member.size
            while left:
                block = content.read(min(left, BLOCK))
                if not block:
                    raise GuestError("the guest's archive ended early")
                file.write(block)
                left -= len(block)
            os.fchmod(file.fileno(), safe_mode(member.mode))
            os.utime(file.fileno(), (member.mtime, member.mtime))
        self.files += 1

    def _make_link(self, parent: int, path: list[str], member: tarfile.TarInfo) -> None:
        if not stays_inside(path[self._depth :], member.linkname):
            self.skipped.append(f"{'/'.join(path)}: a link to {member.linkname}, which is not in what was copied")
            return
        self._remove(parent, path[-1])
        os.symlink(member.linkname, path[-1], dir_fd=parent)
        os.utime(path[-1], (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

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


def safe_mode(mode: int) -> int:
    return mode & 0o777 & ~0o022
