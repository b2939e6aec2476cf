"""FUSE requests against a directory of the host: names. What works on open files is in files.py.

One object serves one guest. A request comes as bytes and leaves as bytes or an OSError; nothing here knows of rings.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vmm.fileserver import fuse
from vmm.fileserver.hiding import Hiding, lists
from vmm.fileserver.locks import Locks
from vmm.fileserver.mount_points import MountPoints
from vmm.fileserver.nodes import FileNode, Nodes
from vmm.fileserver.protection import Protection, refusal
from vmm.fileserver.quota import Quota, Tell

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
NOT_FOR_GUESTS = stat.S_ISUID | stat.S_ISGID  # on the host these bits would give away the user's rights
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
# The time of change that means none: the guest's kernel tells those who watch of a change, and nothing changes.
FOR_OTHERS = 0o022  # whom it would let put files of their own in the place of protected ones
NOTHING_CHANGES = (-7_777_777_777, 777_777_777)
ALL_SET = fuse.SET_MODE | fuse.SET_SIZE | fuse.SET_ATIME | fuse.SET_MTIME | fuse.SET_ATIME_NOW | fuse.SET_MTIME_NOW
AT_SYMLINK_NOFOLLOW = 0x100
# For how long the guest may take what we said for true without asking again.
# A name: long, as we look at the whole way ourselves at each request that comes by it, and answer ESTALE where the
# host has put something else there, upon which its kernel asks anew. Half a second for a file, which may be open when
# that happens: then an open file is asked about, and we cannot tell whether by its name. As short as can be for one of
# several names. Attributes: for as short a time as its kernel can count (one or two of its ticks of 4 ms), which saves
# the second question of a pair, stat after lookup. An open of what has changed since we told of it is answered ESTALE,
# too.
DIRECTORY_S = 30
FILE_NS = 500_000_000
BRIEFLY_NS = 1
libc = ctypes.CDLL(None, use_errno=True)


class Times(ctypes.Structure):
    """Two of struct timespec: access, modification."""

    _fields_ = [("access_s", ctypes.c_long), ("access_ns", ctypes.c_long), ("change_s", ctypes.c_long), ("change_ns",
    ctypes.c_long)]  # fmt: skip


@dataclass(frozen=True)
class Share:
    """What is shared: the descriptor of the directory, and how.

    `uid` and `gid` own on the host what the guest makes, and are `guest_id` inside. `protected` paths cannot be
    changed, and what `hidden` says does not exist (hiding.py). At `mount_points` are empty directories for the guest
    (mount_points.py). Of a share for one file, `file` is its name: the guest writes it, and makes and removes nothing.
    `limit` is how many bytes the guest may add (quota.py).
    """

    root: int
    uid: int
    gid: int
    read_only: bool = False
    protected: tuple[str, ...] = ()
    guest_id: int = 1000
    hidden: list[dict[str, Any]] = field(default_factory=list)
    mount_points: tuple[str, ...] = ()
    file: str = ""
    limit: int | None = None


def version(st: os.stat_result) -> tuple[int, int, int]:
    """What changes with a file's content."""
    return st.st_ctime_ns, st.st_mtime_ns, st.st_size


def checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def read_name(data: bytes) -> str:
    """The name of one directory entry. Raises EINVAL for what a kernel would never send: paths, `..`, nothing."""
    if not 0 < len(data) <= fuse.NAME_MAX or data in (b".", b"..") or b"/" in data or b"\0" in data:
        number = errno.ENAMETOOLONG if len(data) > fuse.NAME_MAX else errno.EINVAL
        raise OSError(number, os.strerror(number))
    return os.fsdecode(data)


def read_names(data: bytes, count: int) -> list[bytes]:
    """Exactly `count` texts, each with its NUL."""
    parts = data.split(b"\0")
    if len(parts) != count + 1 or parts[-1]:
        raise refusal(errno.EINVAL)
    return parts[:-1]


class Names:
    """Looking up, making, moving and removing."""

    def __init__(self, share: Share, own: int, descriptors: int, tell: Tell = lambda word: None) -> None:
        """`own` is a descriptor of /proc/self/fd, `descriptors` how many we may have open; `tell` is the quota's."""
        self.share = share
        self.own = own
        self.hiding = Hiding(share.hidden, share.root, own)
        self.nodes = Nodes(share.root, own, descriptors // 4, self.hiding, share.file)
        self.locks = Locks(self.nodes, own, descriptors // 8)
        self.quota = Quota(share.limit, tell)
        self.mount_points = MountPoints(share.mount_points, share.uid, share.gid)
        # The way to a mount point stays, and what the host has there is out of reach by any other name, too.
        self.protection = Protection(share.root, (*share.protected, *share.mount_points))
        self.operations: dict[int, Callable[[FileNode, bytes], bytes]] = {
            fuse.LOOKUP: self.look_up,
            fuse.GETATTR: self.get_attributes,
            fuse.READLINK: self.read_link,
            fuse.STATFS: self.describe_file_system,
        }
        if not share.read_only:
            self.operations |= {
                fuse.SETATTR: self.set_attributes,
                fuse.SYMLINK: self.make_link,
                fuse.MKNOD: self.make_node,
                fuse.MKDIR: self.make_directory,
                fuse.UNLINK: self.remove,
                fuse.RMDIR: self.remove_directory,
                fuse.RENAME: self.rename,
                fuse.RENAME2: self.rename_with_flags,
                fuse.LINK: self.make_hard_link,
            }

    # answers

    def attributes(self, st: os.stat_result) -> bytes:
        share = self.share
        uid = share.guest_id if st.st_uid == share.uid else st.st_uid
        gid = share.guest_id if st.st_gid == share.gid else st.st_gid
        return fuse.attributes(st, self.nodes.inode(st), uid, gid)

    def brief(self, node: FileNode) -> int:
        """For how many nanoseconds the guest may take its attributes for true: of what it works on not at all."""
        return 0 if node.handles or self.locks.held(node) else BRIEFLY_NS

    def entry(self, parent: FileNode, name: str, st: os.stat_result) -> tuple[FileNode, bytes]:
        node = self.nodes.remember(parent, name, st)
        node.told = version(st)
        alone = st.st_nlink == 1 and not node.handles
        valid_s, valid_ns = (DIRECTORY_S, 0) if node.is_directory else (0, FILE_NS if alone else BRIEFLY_NS)
        return node, fuse.ENTRY.pack(node.number, 0, valid_s, 0, valid_ns, self.brief(node)) + self.attributes(st)

    def found(self, parent: FileNode, name: str) -> bytes:
        st = os.stat(name, dir_fd=self.nodes.directory(parent), follow_symlinks=False)
        return self.entry(parent, name, st)[1]

    # looks

    def look_up(self, parent: FileNode, body: bytes) -> bytes:
        (raw,) = read_names(body, 1)
        name = read_name(raw)
        if parent.is_mount_point:
            raise refusal(errno.ENOENT)
        directory = self.nodes.directory(parent)
        if self.mount_points.active and (st := self.mount_points.status(parent.number, self.nodes.path(parent), name)):
            return self.entry(parent, name, st)[1]
        return self.entry(parent, name, self.seen(parent, directory, name))[1]

    def seen(self, parent: FileNode, directory: int, name: str) -> os.stat_result:
        """What is at `name` for the guest. `directory` is the parent's descriptor. Raises ENOENT, for what is hidden,
        too."""
        st = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not self.hiding.active:
            return st
        if self.hiding.hides(self.nodes.path_in(parent, name), directory=stat.S_ISDIR(st.st_mode)):
            raise refusal(errno.ENOENT)
        if not self.listed(directory, name):
            raise refusal(errno.ENOENT)
        return st

    def listed(self, directory: int, name: str) -> bool:
        """Whether what is found by `name` has that very name, and no hidden one beside it."""
        return not self.hiding.has_other_names(directory) or lists(directory, self.own, name)

    def check_made(self, parent: FileNode, name: str, kind: int = 0) -> None:
        """Raises EACCES when what is made at `name` would be hidden, whether or not there is something already; also
        for a link (`kind`), by which the host would put elsewhere what is to be hidden."""
        if self.hiding.active:
            path = self.nodes.path_in(parent, name)
            if self.hiding.may_hide(path) or (stat.S_ISLNK(kind) and self.hiding.leads_on(path)):
                raise refusal(errno.EACCES)

    def get_attributes(self, node: FileNode, body: bytes) -> bytes:
        st = self.nodes.status(node)
        node.told = version(st)
        valid_ns = BRIEFLY_NS if node.is_directory else 0  # who asked for them once asks again
        return fuse.ATTR_OUT.pack(0, valid_ns, 0) + self.attributes(st)

    def read_link(self, node: FileNode, body: bytes) -> bytes:
        descriptor = self.nodes.open(node, os.O_PATH)
        try:
            return os.fsencode(os.readlink("", dir_fd=descriptor))
        finally:
            os.close(descriptor)

    def describe_file_system(self, node: FileNode, body: bytes) -> bytes:
        st = os.fstatvfs(self.share.root)
        return fuse.STATFS_OUT.pack(
            st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_ffree, st.f_bsize, st.f_namemax, st.f_frsize, 0
        )

    # changes

    def place(
        self, parent: FileNode, raw: bytes, kind: int = 0, *, makes_directory: bool = False, removes: bool = False
    ) -> tuple[int, str]:
        """The directory's descriptor and the name in it, where the guest may make and remove something."""
        name = read_name(raw)
        directory = self.nodes.directory(parent)
        if not removes:
            self.check_made(parent, name, kind)
        elif self.hiding.active:
            self.seen(parent, directory, name)
        self.check_protected(parent, name, makes_directory=makes_directory)
        self.nodes.check_room()  # before anything is made that could not be told of
        if not removes:
            self.quota.take(directory, parent.identity[0], names=1)
        return directory, name

    def check_protected(self, parent: FileNode, name: str, *, makes_directory: bool = False) -> None:
        """Raises EROFS or EBUSY when `name` in `parent` may not be made, removed or replaced."""
        if self.share.file:
            raise refusal(errno.EBUSY)
        self.protection.check_name(parent.identity, name, makes_directory=makes_directory)
        if self.protection.active:
            self.protection.check_path(self.nodes.path_in(parent, name))

    def check_content(self, node: FileNode, descriptor: int | None = None) -> None:
        """Raises EROFS when the file is protected, or lies in a protected directory: by its number now, by the names
        that led to it, or by those that an open `descriptor` has by now."""
        self.protection.check_file(node.identity)
        if self.protection.active:
            self.protection.check_path(self.nodes.path(node))
            if descriptor is not None and (place := self.hiding.place_of(descriptor)):
                self.protection.check_path(place)

    def make_link(self, parent: FileNode, body: bytes) -> bytes:
        raw, target = read_names(body, 2)
        directory, name = self.place(parent, raw, stat.S_IFLNK)
        os.symlink(os.fsdecode(target), name, dir_fd=directory)
        self.quota.named()
        return self.found(parent, name)

    def make_node(self, parent: FileNode, body: bytes) -> bytes:
        mode, _, _, _ = fuse.MKNOD_IN.unpack_from(body)
        (raw,) = read_names(body[fuse.MKNOD_IN.size :], 1)
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            raise refusal(errno.EPERM)  # a device of the host
        directory, name = self.place(parent, raw)
        os.mknod(name, mode & ~NOT_FOR_GUESTS, dir_fd=directory)
        self.quota.named()
        return self.found(parent, name)

    def make_directory(self, parent: FileNode, body: bytes) -> bytes:
        mode, _ = fuse.MKDIR_IN.unpack_from(body)
        (raw,) = read_names(body[fuse.MKDIR_IN.size :], 1)
        directory, name = self.place(parent, raw, makes_directory=True)
        others = FOR_OTHERS if self.protection.begins_way(parent.identity, name) else 0
        os.mkdir(name, mode & 0o1777 & ~others, dir_fd=directory)
        self.quota.named()
        return self.found(parent, name)

    def remove(self, parent: FileNode, body: bytes) -> bytes:
        (raw,) = read_names(body, 1)
        directory, name = self.place(parent, raw, removes=True)
        st = self.check_replaced(directory, name)
        os.unlink(name, dir_fd=directory)
        self.note_removed(st)
        return b""

    def remove_directory(self, parent: FileNode, body: bytes) -> bytes:
        (raw,) = read_names(body, 1)
        directory, name = self.place(parent, raw, removes=True)
        st = self.check_replaced(directory, name)
        os.rmdir(name, dir_fd=directory)
        self.note_removed(st)
        return b""

    def note_removed(self, st: os.stat_result | None) -> None:
        """`st` is what the guest has just removed a name of. What is open keeps its blocks until nobody has it open."""
        if st is None:
            return
        self.quota.named(-1)
        if st.st_nlink == 1 or stat.S_ISDIR(st.st_mode):
            node = self.nodes.removed(st)
            if stat.S_ISREG(st.st_mode) and (node is None or not node.handles):  # of others no block was counted
                self.quota.changed(st.st_blocks, 0)

    def rename(self, parent: FileNode, body: bytes) -> bytes:
        (target,) = fuse.RENAME_IN.unpack_from(body)
        return self._rename(parent, target, 0, body[fuse.RENAME_IN.size :])

    def rename_with_flags(self, parent: FileNode, body: bytes) -> bytes:
        target, flags, _ = fuse.RENAME2_IN.unpack_from(body)
        return self._rename(parent, target, flags, body[fuse.RENAME2_IN.size :])

    def _rename(self, parent: FileNode, number: int, flags: int, names: bytes) -> bytes:
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE):
            raise refusal(errno.EINVAL)
        target = self.nodes.get(number)
        old, new = (read_name(raw) for raw in read_names(names, 2))
        for place, name in ((parent, old), (target, new)):
            self.check_protected(place, name)
        source = os.dup(self.nodes.directory(parent))  # the second look may give the first one's descriptor back
        try:
            self._rename_between(source, parent, old, target, new, flags)
        finally:
            os.close(source)
        return b""

    def _rename_between(self, source: int, parent: FileNode, old: str, target: FileNode, new: str, flags: int) -> None:
        destination = self.nodes.directory(target)
        st = self.seen(parent, source, old)
        self.check_made(target, new)
        self._check_still_hidden(parent, old, st, target, new)
        self.protection.check_moved((st.st_dev, st.st_ino))
        other = self.check_replaced(destination, new)
        if other is not None and self.hiding.active and not self.listed(destination, new):
            raise refusal(errno.EACCES)  # it replaces what may be hidden by its other name
        if flags & RENAME_EXCHANGE and other is not None:
            self.check_made(parent, old)
            self._check_still_hidden(target, new, other, parent, old)
        if flags:
            checked(libc.renameat2(source, os.fsencode(old), destination, os.fsencode(new), flags))
        else:
            os.rename(old, new, src_dir_fd=source, dst_dir_fd=destination)
        if other is None or (other.st_dev, other.st_ino) == (st.st_dev, st.st_ino):
            pass  # nothing was there, or two names of one file, which both stay (rename(2))
        elif flags & RENAME_EXCHANGE:
            self.nodes.moved((other.st_dev, other.st_ino), parent, old)
        else:
            self.note_removed(other)
        self.nodes.moved((st.st_dev, st.st_ino), target, new)

    def _check_still_hidden(
        self, parent: FileNode, old: str, moved: os.stat_result, target: FileNode, new: str
    ) -> None:
        """Raises EBUSY when with a directory, or a link to one, something below would be hidden no more, or from now
        on."""
        if self.hiding.active and stat.S_IFMT(moved.st_mode) in (stat.S_IFDIR, stat.S_IFLNK):
            before, after = self.nodes.path_in(parent, old), self.nodes.path_in(target, new)
            if not self.hiding.hides_alike(before, after):
                raise refusal(errno.EBUSY)

    def check_replaced(self, directory: int, name: str) -> os.stat_result | None:
        """What is at `name`, if that may go: a file system may know a protected file by more names than one."""
        try:
            st = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        self.protection.check_moved((st.st_dev, st.st_ino))
        return st

    def make_hard_link(self, parent: FileNode, body: bytes) -> bytes:
        (number,) = fuse.LINK_IN.unpack_from(body)
        (raw,) = read_names(body[fuse.LINK_IN.size :], 1)
        node = self.nodes.get(number)
        existing = self.nodes.open(node, os.O_PATH)
        try:
            self.check_content(node, existing)
            directory, name = self.place(parent, raw, os.fstat(existing).st_mode)
            os.link(str(existing), name, src_dir_fd=self.own, dst_dir_fd=directory, follow_symlinks=True)
            self.quota.named()
        finally:
            os.close(existing)
        return self.found(parent, name)

    def set_attributes(self, node: FileNode, body: bytes) -> bytes:
        valid, _, number, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, *_ = fuse.SETATTR_IN.unpack_from(body)
        if valid & ALL_SET == fuse.SET_MTIME and (_signed(mtime), mtime_ns) == NOTHING_CHANGES:
            return self.get_attributes(node, body)
        # Owners are not the guest's to set: what it has is the user's. As when the owner stays the same, this succeeds.
        descriptor = self.nodes.open(node, os.O_PATH)
        try:
            name = str(descriptor)  # in /proc/self/fd it leads to the very file, whatever the host does to its names
            # Now that it is held: before, the host may have put a new file of the same number in a protected one's
            # place.
            self.check_content(node, descriptor)
            st = os.fstat(descriptor)
            kind = st.st_mode
            if valid & fuse.SET_MODE:
                if stat.S_ISLNK(kind):
                    raise refusal(errno.EOPNOTSUPP)
                # The host's set-group-id bit of a directory stays (git's shared repositories), whatever the guest says.
                allowed = mode & 0o1777 | kind & stat.S_ISGID if stat.S_ISDIR(kind) else mode & 0o777
                if stat.S_ISDIR(kind) and self.protection.leads((st.st_dev, st.st_ino)):
                    allowed &= ~(FOR_OTHERS & ~kind)
                os.chmod(name, allowed, dir_fd=self.own)
            if valid & fuse.SET_SIZE:
                if not stat.S_ISREG(kind):
                    kinds = {stat.S_IFDIR: errno.EISDIR, stat.S_IFLNK: errno.ELOOP}
                    raise refusal(kinds.get(stat.S_IFMT(kind), errno.EACCES))
                self.truncate(node, name, size, number if valid & fuse.SET_FH else None)
            if valid & (fuse.SET_ATIME | fuse.SET_MTIME | fuse.SET_ATIME_NOW | fuse.SET_MTIME_NOW):
                access = UTIME_NOW if valid & fuse.SET_ATIME_NOW else atime_ns if valid & fuse.SET_ATIME else UTIME_OMIT
                change = UTIME_NOW if valid & fuse.SET_MTIME_NOW else mtime_ns if valid & fuse.SET_MTIME else UTIME_OMIT
                times = Times(_signed(atime), access, _signed(mtime), change)
                checked(libc.utimensat(self.own, name.encode(), ctypes.byref(times), 0))
        finally:
            os.close(descriptor)
        return self.get_attributes(node, body)

    def truncate(self, node: FileNode, name: str, size: int, handle: int | None) -> None:
        """`name` leads to it in /proc/self/fd; `handle` is the guest's open file, if it used one."""
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.own)
        try:
            self.cut(descriptor, size)
        finally:
            os.close(descriptor)

    def cut(self, descriptor: int, size: int) -> None:
        """ftruncate(2), counted."""
        before = os.fstat(descriptor).st_blocks if self.quota.counts else 0
        os.ftruncate(descriptor, size)
        if self.quota.counts:
            self.quota.changed(before, os.fstat(descriptor).st_blocks)

    def open_regular(self, node: FileNode, flags: int) -> int:
        """A descriptor of a regular file. Raises EISDIR, EACCES, ELOOP for anything else."""
        if node.is_directory:
            raise refusal(errno.EISDIR)
        return self.nodes.open(node, flags)


def _signed(seconds: int) -> int:
    return seconds - (1 << 64) if seconds >> 63 else seconds
