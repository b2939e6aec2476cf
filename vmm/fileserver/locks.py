"""The guest's file locks as locks of the host, so that both sides wait for each other.

Each owner in the guest gets an open file description of its own: an open file description lock (fcntl(2), F_OFD_SETLK)
conflicts with those of other owners and with the POSIX locks of the host's processes, and goes away with its
descriptor. flock(2) locks are taken the same way. Nothing here waits: a request that has to wait is tried again by the
server's loop.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from vmm.fileserver.nodes import FileNode, Nodes

OFD_GETLK, OFD_SETLK = 36, 37  # include/uapi/asm-generic/fcntl.h
FLOCK = struct.Struct("@hhqqi4x")
TO_THE_END = 0x7FFFFFFFFFFFFFFF
FLOCK_OF = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}
# SQLite's write-ahead log needs memory that all processes share, which two kernels do not have: it keeps its index in a
# mapping of the file *-shm, and each connection holds a shared lock on this byte of it (sqlite3's os_unix.c,
# UNIX_SHM_DMS). Of the guest's connections we hold it exclusively on the host, so that only one side at a time has the
# database open. SQLite on the other takes the lock for one that is held for a moment: it tries for ten seconds and then
# says "locking protocol". Without it, both would write by an index that is only theirs.
WAL_INDEX, WAL_BYTE = "-shm", 128
MAX_OWNERS = 512  # with a lock at one time: each costs a descriptor

Owner = tuple[int, bool]  # the guest's number, and whether it is of flock's kind
Range = tuple[int, int, int]  # kind, start, end (inclusive)


class Locks:
    """All locks of one guest."""

    def __init__(self, nodes: Nodes, own: int, descriptors: int) -> None:
        self._most = max(min(MAX_OWNERS, descriptors), 16)
        self._nodes = nodes
        self._own = own
        self._held: dict[int, dict[Owner, int]] = {}
        self._count = 0
        self.ranges: dict[tuple[int, Owner], list[Range]] = {}  # what each owner has, by node: the kernel does not say
        self._shared: dict[int, tuple[int, set[Owner]]] = {}  # by node: what holds WAL_BYTE, and for whom

    def test(self, node: FileNode, handle: int, owner: Owner, wanted: Range) -> Range | None:
        """The lock that stands in the way; None when there is none."""
        kind, start, end = wanted
        descriptor = self._of(node, handle, owner)
        if node.number in self._shared and start <= WAL_BYTE <= end:
            return (fcntl.F_RDLCK, WAL_BYTE, WAL_BYTE) if kind == fcntl.F_WRLCK else None
        packed = FLOCK.pack(kind, os.SEEK_SET, start, self._length(start, end), 0)
        found, _, begin, length, _ = FLOCK.unpack(fcntl.fcntl(descriptor, OFD_GETLK, packed))
        if found == fcntl.F_UNLCK:
            return None
        return found, begin, begin + length - 1 if length else TO_THE_END

    def take(self, node: FileNode, handle: int, owner: Owner, wanted: Range) -> None:
        """Take, change or give back. Raises EAGAIN when another lock stands in the way."""
        kind, start, end = wanted
        if kind not in FLOCK_OF:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if owner[1]:
            # Such a lock is the open file's own, and goes away with it.
            fcntl.flock(handle, FLOCK_OF[kind] | fcntl.LOCK_NB)
            return
        if kind == fcntl.F_UNLCK and owner not in self._held.get(node.number, {}):
            return
        descriptor = self._of(node, handle, owner)
        self._length(start, end)
        try:
            if node.name.endswith(WAL_INDEX) and start == end == WAL_BYTE:
                self._take_wal(node, descriptor, owner, kind)
            else:
                packed = FLOCK.pack(kind, os.SEEK_SET, start, self._length(start, end), 0)
                fcntl.fcntl(descriptor, OFD_SETLK, packed)
            self._note(node, owner, wanted)
        except OSError as error:
            raise OSError(errno.EAGAIN if error.errno == errno.EACCES else error.errno, error.strerror) from None

    def _note(self, node: FileNode, owner: Owner, wanted: Range) -> None:
        kind, start, end = wanted
        left = []
        for held, begin, stop in self.ranges.pop((node.number, owner), []):
            if stop < start or begin > end:
                left.append((held, begin, stop))
                continue
            left += [(held, begin, start - 1)] if begin < start else []
            left += [(held, end + 1, stop)] if stop > end else []
        left += [wanted] if kind != fcntl.F_UNLCK else []
        if left:
            self.ranges[node.number, owner] = left

    def _take_wal(self, node: FileNode, descriptor: int, owner: Owner, kind: int) -> None:
        one = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, WAL_BYTE, 1, 0)
        none = FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, WAL_BYTE, 1, 0)
        if kind == fcntl.F_RDLCK:
            fcntl.fcntl(descriptor, OFD_SETLK, none)  # it may have had the byte alone
            if node.number not in self._shared:
                shared = os.open(str(descriptor), os.O_RDWR | os.O_CLOEXEC, dir_fd=self._own)
                try:
                    fcntl.fcntl(shared, OFD_SETLK, one)
                except OSError:
                    os.close(shared)
                    raise
                self._shared[node.number] = shared, set()
            self._shared[node.number][1].add(owner)
            return
        self._leave_wal(node, owner)
        fcntl.fcntl(descriptor, OFD_SETLK, one if kind == fcntl.F_WRLCK else none)

    def _leave_wal(self, node: FileNode, owner: Owner) -> None:
        if (entry := self._shared.get(node.number)) is not None:
            shared, owners = entry
            owners.discard(owner)
            if not owners:
                os.close(shared)
                del self._shared[node.number]

    def release(self, node: FileNode, owner: Owner) -> None:
        """All that `owner` has in this file."""
        self._leave_wal(node, owner)
        self.ranges.pop((node.number, owner), None)
        owners = self._held.get(node.number)
        if owners is not None and (descriptor := owners.pop(owner, None)) is not None:
            os.close(descriptor)
            self._count -= 1
            if not owners:
                del self._held[node.number]

    def release_all(self, node: FileNode) -> None:
        """All that anybody has in this file: its last handle is gone."""
        for owner in list(self._held.get(node.number, {})):
            self.release(node, owner)

    def has(self, node: FileNode, owner: Owner) -> bool:
        return owner in self._held.get(node.number, {})

    def held(self, node: FileNode) -> bool:
        return node.number in self._held

    def reset(self) -> None:
        for owners in self._held.values():
            for descriptor in owners.values():
                os.close(descriptor)
        for shared, _ in self._shared.values():
            os.close(shared)
        self._shared.clear()
        self.ranges.clear()
        self._held.clear()
        self._count = 0

    def _of(self, node: FileNode, handle: int, owner: Owner) -> int:
        owners = self._held.get(node.number, {})
        if owner not in owners:
            if self._count >= self._most:
                raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
            owners[owner] = self._again(handle)
            self._held[node.number] = owners
            self._count += 1
        return owners[owner]

    def _again(self, handle: int) -> int:
        """An open file description of its own, for all kinds of locks where the file's mode lets us.

        Where it lets nobody open it any more (a lock file of mode 0444) it is the guest's own: that owner then shares
        its locks with who else uses the same handle.
        """
        own = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE
        for access in dict.fromkeys((os.O_RDWR, own)):
            try:
                return os.open(str(handle), access | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=self._own)
            except OSError:
                continue
        return os.dup(handle)

    @staticmethod
    def _length(start: int, end: int) -> int:
        if not 0 <= start <= end <= TO_THE_END:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return 0 if end == TO_THE_END else end - start + 1
