"""FUSE requests on open files and directories: reading, writing, locking, listing."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from vmm.fileserver import fuse
from vmm.fileserver.birth import born
from vmm.fileserver.filesystem import Names, Share, checked, libc, read_names, version
from vmm.fileserver.locks import MAX_OWNERS
from vmm.fileserver.nodes import FileNode, stale
from vmm.fileserver.protection import refusal
from vmm.fileserver.quota import Tell

MAX_WRITE = 1 << 20
DESCRIPTORS_KEPT = 64  # that stay ours: the rings, /proc/self/fd, directories on their way
MAX_LISTINGS = 256 << 20  # bytes of all directories that the guest has begun to read: a listing of two million names
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16  # linux/falloc.h
# Two changes within one tick of the host's clock can have one time (Linux before 6.13: 1/HZ, at most 10 ms). A version
# that is younger than this, seen now, may still change without a trace.
TICK_NS = 20_000_000
# What an open may ask of the host; the rest (O_CREAT, O_EXCL, O_NOCTTY ...) is the guest's kernel's business.
OPEN_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_APPEND | os.O_DSYNC | os.O_SYNC
NOT_COUNTED = contextlib.nullcontext()


@dataclass
class Handle:
    """An open file or directory of the guest. `listing` is a directory's, as FUSE has it, made at its first read;
    `starts` is where its entries begin, and where the last ends. `flock` is the kind of flock(2) lock that it has."""

    node: FileNode
    descriptor: int
    writable: bool = False
    listing: bytes = b""
    starts: array[int] = field(default_factory=lambda: array("L", [0]))
    owners: set[tuple[int, bool]] = field(default_factory=set)
    flock: int = fcntl.F_UNLCK


class Later(Exception):
    """The request is slow: `work` is for another thread, and gives the answer."""

    def __init__(self, work: Callable[[], bytes]) -> None:
        super().__init__()
        self.work = work


class WouldWait(Exception):
    """The request is to be tried again: it waits for a lock."""


class Files(Names):
    """Everything of one guest: the names and the open files."""

    def __init__(self, share: Share, own: int, descriptors: int, tell: Tell = lambda word: None) -> None:
        super().__init__(share, own, descriptors, tell)
        self.handles: dict[int, Handle] = {}
        self.next_handle = 1
        self._listed = 0
        self._most_handles = max(descriptors // 2 + descriptors // 8 - DESCRIPTORS_KEPT, 16)
        self.operations |= {
            fuse.OPEN: self.open,
            fuse.RELEASE: self.release,
            fuse.FLUSH: self.flush,
            fuse.OPENDIR: self.open_directory,
            fuse.READDIR: self.read_directory,
            fuse.RELEASEDIR: self.release,
            fuse.GETLK: self.test_lock,
            fuse.SETLK: self.set_lock,
            fuse.SETLKW: self.wait_for_lock,
            fuse.LSEEK: self.seek,
            fuse.FSYNC: self.synchronise,
            fuse.FSYNCDIR: self.synchronise,
            fuse.SYNCFS: lambda node, body: b"",  # each write has reached the host's kernel already
        }
        if not share.read_only:
            self.operations |= {
                fuse.CREATE: self.create,
                fuse.FALLOCATE: self.allocate,
                fuse.COPY_FILE_RANGE: self.copy_range,
            }

    def reset(self) -> None:
        """Close and forget all: the guest begins anew."""
        for handle in self.handles.values():
            os.close(handle.descriptor)
            handle.node.handles.clear()
        self.handles.clear()
        self._listed = 0
        self.locks.reset()
        self.nodes.reset()

    def handle(self, number: int, node: FileNode, *, to_let_go: bool = False) -> Handle:
        """Raises EBADF for a handle that is not open, or is another file's; ESTALE where the host has given the file a
        hidden name since, unless it is `to_let_go` of it, or all names but one are hidden."""
        handle = self.handles.get(number)
        if handle is None or handle.node is not node:
            raise refusal(errno.EBADF)
        judged = not to_let_go and not self.share.file
        if judged and self.hiding.hides_open(handle.descriptor, directory=node.is_directory):
            raise refusal(errno.ESTALE)
        return handle

    def _hold(self, node: FileNode, descriptor: int, *, writable: bool = False) -> int:
        number = self.next_handle
        self.next_handle += 1
        self.handles[number] = Handle(node, descriptor, writable)
        node.handles.append(descriptor)
        return number

    def open_again(
        self, number: int, node: FileNode, flags: int, *, writable: bool, birth: int | None = None
    ) -> Handle:
        """Open for the guest what it has open by this number already. Raises OSError as `open` does, and ESTALE for
        another file, which has got the inode number of the one of that `birth`."""
        self._check_room()
        if number in self.handles:
            raise refusal(errno.EBADF)
        if node.is_directory:
            descriptor = self.nodes.open(node, os.O_RDONLY | os.O_DIRECTORY)
        else:
            if (writable or flags & os.O_ACCMODE != os.O_RDONLY) and self.share.read_only:
                raise refusal()
            if writable or flags & os.O_ACCMODE != os.O_RDONLY:
                self.check_content(node)
            descriptor = self.open_regular(node, flags)
        try:
            if birth is not None and born(descriptor) not in (birth, None):
                raise stale()
            if writable:
                self.check_content(node, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        handle = self.handles[number] = Handle(node, descriptor, writable)
        node.handles.append(descriptor)
        return handle

    def _check_room(self) -> None:
        if len(self.handles) >= self._most_handles:
            raise refusal(errno.ENFILE)

    # files

    def truncate(self, node: FileNode, name: str, size: int, handle: int | None) -> None:
        if handle is not None and (opened := self.handle(handle, node)).writable:
            self.cut(opened.descriptor, size)  # also where the file's mode lets nobody open it for writing
        else:
            super().truncate(node, name, size, None)

    def open(self, node: FileNode, body: bytes) -> bytes:
        asked, _ = fuse.OPEN_IN.unpack_from(body)
        flags = asked & OPEN_FLAGS
        writable = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if writable:
            if self.share.read_only:
                raise refusal()
            self.check_content(node)
        self._check_room()
        descriptor = self.open_regular(node, flags & ~os.O_TRUNC)
        try:
            if writable:
                # Once more, as it is held now: the host may have put a new file of the same number in a protected one's
                # place. So nothing is cut before that.
                self.check_content(node, descriptor)
            self._check_told(node, descriptor)
            if flags & os.O_TRUNC:
                before = os.fstat(descriptor).st_blocks if self.quota.counts else 0
                os.close(os.open(str(descriptor), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=self.own))
                self.quota.changed(before, os.fstat(descriptor).st_blocks if self.quota.counts else 0)
        except BaseException:
            os.close(descriptor)
            raise
        number = self._hold(node, descriptor, writable=writable)
        return fuse.OPEN_OUT.pack(number, self._how(node, descriptor, writable), 0)

    def _check_told(self, node: FileNode, descriptor: int) -> None:
        """Raises ESTALE once where the guest's attributes are of an older version: its kernel would take the size from
        them. One that changes all the time is let through the second time, and read past the cache."""
        told, node.told = node.told, None
        again, node.refused = node.refused, False  # it has looked once more, and another change has come in between
        if told is not None and not again and not node.handles and told != version(os.fstat(descriptor)):
            node.refused = True
            raise refusal(errno.ESTALE)

    def _how(self, node: FileNode, descriptor: int, writable: bool) -> int:
        """How the guest is to use an open file.

        What can be written is read and written past the guest's page cache: what either side writes is there for the
        other at once. What is only read goes through the cache, which begins empty, unless it is known to be of this
        version.
        """
        if writable or self.share.file:  # what the guest takes for one file may be another one by now
            return fuse.FOPEN_DIRECT_IO
        st = os.fstat(descriptor)
        settled = time.time_ns() - max(st.st_ctime_ns, st.st_mtime_ns) > TICK_NS
        kept = node.seen == version(st)
        node.seen = version(st) if settled else None
        return fuse.FOPEN_NOFLUSH | (fuse.FOPEN_KEEP_CACHE if kept else 0)

    def create(self, parent: FileNode, body: bytes) -> bytes:
        flags, mode, _, _ = fuse.CREATE_IN.unpack_from(body)
        (raw,) = read_names(body[fuse.CREATE_IN.size :], 1)
        self._check_room()
        directory, name = self.place(parent, raw)
        # O_EXCL, so that a link that the host has put there meanwhile is not followed and a protected file not opened.
        how = (flags & OPEN_FLAGS) | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        try:
            descriptor = os.open(name, how, mode & 0o777, dir_fd=directory)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            raise refusal(errno.ESTALE) from None  # it was made meanwhile: the guest looks again, and opens it
        self.quota.named()
        try:
            node, entry = self.entry(parent, name, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        number = self._hold(node, descriptor, writable=True)
        return entry + fuse.OPEN_OUT.pack(number, fuse.FOPEN_DIRECT_IO, 0)

    def read(self, node: FileNode, body: bytes, into: list[memoryview]) -> int:
        """Fill `into`; returns how many bytes there were."""
        number, offset, size, *_ = fuse.READ_IN.unpack_from(body)
        handle = self.handle(number, node)
        buffers, room = [], min(size, MAX_WRITE)
        for view in into:
            if room <= 0:
                break
            buffers.append(view[:room])
            room -= len(view)
        return os.preadv(handle.descriptor, buffers, offset) if buffers else 0

    def write(self, node: FileNode, body: bytes, data: list[memoryview]) -> bytes:
        number, offset, size, how, *_ = fuse.WRITE_IN.unpack_from(body)
        handle = self.handle(number, node)
        if size != sum(map(len, data)):
            raise refusal(errno.EINVAL)
        if not handle.writable or self.share.read_only:
            raise refusal(errno.EBADF)
        self.check_content(node, handle.descriptor)  # the host may have put this very file in a protected one's place
        node.told = None  # the guest's kernel forgets its attributes, too
        with self._growing(node, handle.descriptor, size):
            if how & fuse.WRITE_CACHE and fcntl.fcntl(handle.descriptor, fcntl.F_GETFL) & os.O_APPEND:
                return self._write_page(handle.descriptor, data, offset)
            return fuse.WRITE_OUT.pack(os.pwritev(handle.descriptor, data, offset) if data else 0, 0)

    def _growing(self, node: FileNode, descriptor: int, size: int) -> contextlib.AbstractContextManager[None]:
        """The file may get `size` more bytes within the block. Raises ENOSPC; what frees room is always allowed."""
        if size:
            self.quota.take(descriptor, node.identity[0], size)
        return self._counting(descriptor) if self.quota.counts else NOT_COUNTED

    @contextlib.contextmanager
    def _counting(self, descriptor: int) -> Iterator[None]:
        before = os.fstat(descriptor).st_blocks
        try:
            yield
        finally:
            self.quota.changed(before, os.fstat(descriptor).st_blocks)

    def _write_page(self, appending: int, data: list[memoryview], offset: int) -> bytes:
        """A page of a shared mapping goes where it belongs, although its file was opened to append."""
        descriptor = os.open(str(appending), os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.own)
        try:
            return fuse.WRITE_OUT.pack(os.pwritev(descriptor, data, offset), 0)
        finally:
            os.close(descriptor)

    def release(self, node: FileNode, body: bytes) -> bytes:
        number, _, flags, owner = fuse.RELEASE_IN.unpack_from(body)
        handle = self.handle(number, node, to_let_go=True)
        del self.handles[number]
        self._listed -= len(handle.listing)
        if flags & fuse.RELEASE_FLOCK_UNLOCK:
            self.locks.release(node, (owner, True))
        if not handle.writable:  # such a handle is not flushed
            for each in handle.owners:
                self.locks.release(node, each)
        if len(node.handles) == 1:
            self.locks.release_all(node)
            if node.gone is not None and not node.is_directory and self.quota.counts:
                self.quota.changed(os.fstat(handle.descriptor).st_blocks, 0)
        self.nodes.released(node, handle.descriptor)
        os.close(handle.descriptor)
        return b""

    def flush(self, node: FileNode, body: bytes) -> bytes:
        number, _, _, owner = fuse.FLUSH_IN.unpack_from(body)
        self.handle(number, node, to_let_go=True)
        self.locks.release(node, (owner, False))
        return b""

    def seek(self, node: FileNode, body: bytes) -> bytes:
        number, offset, whence, _ = fuse.LSEEK_IN.unpack_from(body)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise refusal(errno.EINVAL)
        return fuse.LSEEK_OUT.pack(os.lseek(self.handle(number, node).descriptor, offset, whence))

    def synchronise(self, node: FileNode, body: bytes) -> bytes:
        """The disk may take long, so another thread waits for it, with a descriptor of its own."""
        number, flags, _ = fuse.FSYNC_IN.unpack_from(body)
        descriptor = os.dup(self.handle(number, node).descriptor)

        def work() -> bytes:
            try:
                (os.fdatasync if flags & 1 else os.fsync)(descriptor)
            finally:
                os.close(descriptor)
            return b""

        raise Later(work)

    def allocate(self, node: FileNode, body: bytes) -> bytes:
        number, offset, length, mode, _ = fuse.FALLOCATE_IN.unpack_from(body)
        handle = self.handle(number, node)
        if mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) or not handle.writable:
            raise refusal(errno.EOPNOTSUPP)
        self.check_content(node, handle.descriptor)
        node.told = None
        with self._growing(node, handle.descriptor, 0 if mode & PUNCH_HOLE else length):
            checked(libc.fallocate(handle.descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))
        return b""

    def copy_range(self, node: FileNode, body: bytes) -> bytes:
        source, offset, other, target, to, length, flags = fuse.COPY_IN.unpack_from(body)
        destination = self.nodes.get(other)
        reading, writing = self.handle(source, node), self.handle(target, destination)
        if flags or not writing.writable:
            raise refusal(errno.EINVAL)
        self.check_content(destination, writing.descriptor)
        destination.told = None
        length = min(length, 4 * MAX_WRITE)  # a part at a time: the guest asks for the rest
        with self._growing(destination, writing.descriptor, length):
            done = os.copy_file_range(reading.descriptor, writing.descriptor, length, offset, to)
        return fuse.WRITE_OUT.pack(done, 0)

    # directories

    def open_directory(self, node: FileNode, body: bytes) -> bytes:
        self._check_room()
        if node.is_mount_point:
            descriptor = os.dup(self.share.root)  # of which nothing is read: it is a path's alone
        else:
            descriptor = self.nodes.open(node, os.O_RDONLY | os.O_DIRECTORY)
        return fuse.OPEN_OUT.pack(self._hold(node, descriptor), 0, 0)

    def read_directory(self, node: FileNode, body: bytes) -> bytes:
        number, offset, size, *_ = fuse.READ_IN.unpack_from(body)
        handle = self.handle(number, node)
        if offset == 0 or not handle.listing:  # none yet: the guest had it from the server before us
            self._list(handle)
        if offset >= len(handle.starts) - 1:
            return b""
        start = handle.starts[offset]
        end = handle.starts[bisect_right(handle.starts, start + min(size, MAX_WRITE)) - 1]
        return handle.listing[start:end]

    def _list(self, handle: Handle) -> None:
        above = handle.node.parent or handle.node
        listing, starts = bytearray(), array("L", [0])

        def add(inode: int, kind: int, name: bytes) -> None:
            listing.extend(fuse.directory_entry(inode, len(starts), kind >> 12, name))
            starts.append(len(listing))

        add(handle.node.identity[1], stat.S_IFDIR, b".")
        add(above.identity[1], stat.S_IFDIR, b"..")
        self._listed -= len(handle.listing)
        handle.listing, handle.starts = b"", array("L", [0])
        if not handle.node.is_mount_point:
            self._list_entries(handle, add, lambda: self._listed + len(listing))
        handle.listing, handle.starts = bytes(listing), starts
        self._listed += len(listing)

    def _list_entries(self, handle: Handle, add: Callable[[int, int, bytes], None], size: Callable[[], int]) -> None:
        """Each name with its inode and kind. `size` is how many bytes there are by now of all listings."""
        place = self.hiding.place_of(handle.descriptor) if self.hiding.active else None
        if place is None:
            place = self.nodes.path(handle.node)
        above_names = f"{place}/" if place else ""
        mount_points = self.mount_points.names(place)
        for name in mount_points:
            if st := self.mount_points.status(handle.node.number, place, name):
                add(st.st_ino, stat.S_IFDIR, os.fsencode(name))
        with os.scandir(handle.descriptor) as found:
            for entry in found:
                if entry.name in mount_points or self.hiding.hides(
                    above_names + entry.name, directory=entry.is_dir(follow_symlinks=False)
                ):
                    continue
                if entry.is_symlink():
                    kind = stat.S_IFLNK
                elif entry.is_dir(follow_symlinks=False):
                    kind = stat.S_IFDIR
                else:
                    kind = stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0
                add(entry.inode(), kind, os.fsencode(entry.name))
                if size() > MAX_LISTINGS:
                    raise refusal(errno.ENOMEM)

    # locks

    def _lock(self, node: FileNode, body: bytes) -> tuple[Handle, tuple[int, bool], tuple[int, int, int]]:
        number, owner, start, end, kind, _, flags, _ = fuse.LOCK_IN.unpack_from(body)
        handle = self.handle(number, node)
        who = (owner, bool(flags & fuse.LOCK_IS_FLOCK))
        if not handle.writable:
            if len(handle.owners) > MAX_OWNERS:  # most have let go since
                handle.owners = {each for each in handle.owners if self.locks.has(node, each)}
            handle.owners.add(who)
        return handle, who, (kind, start, end)

    def test_lock(self, node: FileNode, body: bytes) -> bytes:
        handle, owner, wanted = self._lock(node, body)
        found = self.locks.test(node, handle.descriptor, owner, wanted)
        kind, start, end = found or (fcntl.F_UNLCK, 0, 0)
        return fuse.LOCK_OUT.pack(start, end, kind, 0)

    def set_lock(self, node: FileNode, body: bytes) -> bytes:
        handle, owner, wanted = self._lock(node, body)
        self.locks.take(node, handle.descriptor, owner, wanted)
        if owner[1]:
            handle.flock = wanted[0]
        return b""

    def wait_for_lock(self, node: FileNode, body: bytes) -> bytes:
        try:
            return self.set_lock(node, body)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise WouldWait from None
            raise
