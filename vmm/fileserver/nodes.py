"""What the guest knows by number, and how we get back to it on the host with few descriptors.

A node is remembered by its parent and its name there, and is reached by opening that name again, one component at a
time, never through a link; what is found must be the same file (device and inode), else the guest is told that its
idea is stale and looks the name up anew. So no path text of the guest or of ours is ever resolved by the kernel as a
whole, and a node costs no descriptor. Directories in use keep one, the least recently used give it back.

In a share for one file, that file's node is whatever file has the name: the guest has mounted it somewhere, looks up no
name any more, and has to see the file that an editor of the host puts there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable

from vmm.fileserver.hiding import Hiding
from vmm.fileserver.mount_points import NOWHERE

ROOT = 1
MAX_DEPTH = 4096  # directories within each other; a path of the kernel has at most 2048 components
MAX_NODES = 1_000_000  # what the guest's kernel may remember, at 500 to 1,000 bytes of ours each


def stale() -> OSError:
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))


class FileNode:
    """A file, directory or link that the guest has looked up `lookups` times and not forgotten."""

    __slots__ = (
        "children",
        "descriptor",
        "gone",
        "handles",
        "identity",
        "is_directory",
        "is_mount_point",
        "lookups",
        "name",
        "number",
        "parent",
        "refused",
        "seen",
        "told",
    )

    def __init__(self, number: int, st: os.stat_result, parent: FileNode | None, name: str) -> None:
        self.number = number
        self.identity = (st.st_dev, st.st_ino)
        self.is_directory = stat.S_ISDIR(st.st_mode)
        self.parent = parent
        self.name = name
        self.children = 0  # nodes that are reached through it
        if parent is not None:
            parent.children += 1
        self.lookups = 0
        self.is_mount_point = st.st_dev == NOWHERE  # the host has nothing to say of it
        # What it was when the guest removed its last name; of a mount point, what it always is.
        self.gone: os.stat_result | None = st if self.is_mount_point else None
        self.descriptor = -1  # of a directory, while we keep one
        self.handles: list[int] = []  # descriptors of the guest's open handles
        self.told: tuple[int, int, int] | None = None  # the version that the guest's attributes are of
        self.refused = False  # its last open, because of that
        self.seen: tuple[int, int, int] | None = None  # the version whose pages the guest may hold


class Nodes:
    """All nodes of one guest. `root` is a descriptor of the shared directory, which stays open."""

    def __init__(self, root: int, own: int, directories: int, hiding: Hiding, file: str = "") -> None:
        """`own` is a descriptor of /proc/self/fd; `directories` is how many may keep a descriptor; `file` is the name
        of the one file that is shared, if it is one."""
        self._file = file
        self._followed: FileNode | None = None
        self._own = own
        self._hiding = hiding
        self._limit = max(directories, 16)
        self._used: OrderedDict[int, FileNode] = OrderedDict()
        self._by_identity: dict[tuple[int, int], FileNode] = {}
        self._by_number: dict[int, FileNode] = {}
        self.next_number = ROOT + 1
        self._root = root
        self._devices: dict[int, int] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all but the root: a new kernel in the guest, or an attacker, begins again."""
        for node in self._used.values():
            os.close(node.descriptor)
        self._used.clear()
        self._by_identity.clear()
        self._by_number.clear()
        self._followed = None
        st = os.fstat(self._root)
        node = FileNode(ROOT, st, None, "")
        node.descriptor = self._root
        self._by_identity[node.identity] = node
        self._by_number[ROOT] = node
        self._devices = {st.st_dev: 0}

    def __len__(self) -> int:
        return len(self._by_number)

    def each(self) -> Iterable[FileNode]:
        """All that are remembered, the root first."""
        return self._by_number.values()

    @property
    def device(self) -> int:
        """The host's number of the device that the root is on."""
        return os.fstat(self._root).st_dev

    def add(self, node: FileNode) -> None:
        """Remember a new one. Raises ValueError for a number that is given already."""
        if node.number in self._by_number:
            raise ValueError(f"node {node.number} is there")
        self._by_identity[node.identity] = node
        self._by_number[node.number] = node

    def follow(self, node: FileNode) -> None:
        """It is the one file of the share."""
        self._followed = node

    def get(self, number: int, *, to_let_go: bool = False) -> FileNode:
        """Raises ESTALE for a number that we never gave, that the guest has forgotten, or of what is hidden now,
        unless it is `to_let_go` of it."""
        node = self._by_number.get(number)
        if node is None or not (node.lookups or node.handles or number == ROOT):
            raise stale()
        if self._hiding.active and not to_let_go and self._is_hidden(node):
            raise stale()
        return node

    def _is_hidden(self, node: FileNode) -> bool:
        """By the names that lead there; what is open keeps its number when the host renames it, and is hidden by the
        name that the host has given it."""
        if node.is_mount_point and node.parent is not None:
            node = node.parent  # the mount point itself is there, whatever a pattern says of the host's
        directory = node.is_directory
        if node is self._followed:
            return False
        return self._hiding.hides(self.path(node), directory=directory) or any(
            self._hiding.hides_open(handle, directory=directory) for handle in node.handles[-1:]
        )

    def path(self, node: FileNode) -> str:
        """The names that lead there from the root, as the guest knows them. Raises ESTALE."""
        names: list[str] = []
        at: FileNode | None = node
        while at is not None and at.number != ROOT:
            names.append(at.name)
            if len(names) > MAX_DEPTH:
                raise stale()
            at = at.parent
        return "/".join(reversed(names))

    def path_in(self, parent: FileNode, name: str) -> str:
        """The path of `name` in the directory `parent`."""
        above = self.path(parent)
        return f"{above}/{name}" if above else name

    def check_room(self) -> None:
        """Raises ENFILE when no more can be remembered."""
        if len(self._by_number) >= MAX_NODES:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    def remember(self, parent: FileNode, name: str, st: os.stat_result) -> FileNode:
        """The node of what was found at `name`, counted as looked up once more."""
        identity = (st.st_dev, st.st_ino)
        if self._followed is not None and self._by_number.get(self._followed.number) is self._followed:
            self._is_still(self._followed, st)
        node = self._by_identity.get(identity)
        if node is not None and not self._is_that_one(node, parent, name, st):
            del self._by_identity[identity]
            node = None
        if node is None:
            self.check_room()
            node = FileNode(self.next_number, st, parent, name)
            self.next_number += 1
            self.add(node)
        elif node.number != ROOT:
            self._put(node, parent, name)
        node.lookups += 1
        if self._file and node.parent is not None and node.parent.number == ROOT and name == self._file:
            self.follow(node)
        return node

    def _is_still(self, node: FileNode, st: os.stat_result) -> bool:
        """Whether what has the node's name is the node. The one file of a share is, whichever file that is now."""
        identity = (st.st_dev, st.st_ino)
        if node is not self._followed:
            return identity == node.identity
        if not stat.S_ISREG(st.st_mode):
            return False
        if self._by_identity.get(node.identity) is node:
            del self._by_identity[node.identity]
        node.identity = identity
        self._by_identity[identity] = node
        return True

    def _is_that_one(self, node: FileNode, parent: FileNode, name: str, st: os.stat_result) -> bool:
        """Whether the node is what was found at `name`, and not something that is gone and whose number was given away.

        A host gives the number of a removed file to the next one that is made: git's new HEAD has that of its last
        lock. The guest may believe the old name still, and would read the new file by it. What is held open keeps its
        number.
        """
        if node.number == ROOT or node.handles or node.descriptor >= 0:
            return True
        if node.is_directory != stat.S_ISDIR(st.st_mode):
            return False
        if node.parent is parent and node.name == name:
            return True
        try:
            self._look(self.directory(node.parent), node)
        except OSError:
            return False
        return True  # a hard link: it has both names

    def moved(self, identity: tuple[int, int], parent: FileNode, name: str) -> None:
        """The guest has renamed it."""
        if (node := self._by_identity.get(identity)) is not None and node.number != ROOT:
            self._put(node, parent, name)

    def _put(self, node: FileNode, parent: FileNode, name: str) -> None:
        """It is reached through `parent` now."""
        old, node.name = node.parent, name
        if old is not parent:
            parent.children += 1
            node.parent = parent
            if old is not None:
                old.children -= 1
                self._drop_unused(old)

    def removed(self, st: os.stat_result) -> FileNode | None:
        """The guest has removed its last name. It may still stand in it (a working directory), and ask what it is.

        Returns the node, None where nothing is remembered of it."""
        identity = (st.st_dev, st.st_ino)
        if (node := self._by_identity.get(identity)) is None or node.number == ROOT:
            return None
        node.gone = st
        del self._by_identity[identity]  # the host may give its number to another file now
        return node

    def forget(self, number: int, count: int) -> None:
        node = self._by_number.get(number)
        if node is None or number == ROOT:
            return
        node.lookups -= min(count, node.lookups)
        self._drop_unused(node)

    def released(self, node: FileNode, descriptor: int) -> None:
        """One of its handles is gone."""
        node.handles.remove(descriptor)
        self._drop_unused(node)

    def _drop_unused(self, unused: FileNode | None) -> None:
        """What leads to something that is remembered is remembered, too, and counts."""
        node = unused
        while node is not None and node.number != ROOT and self._by_number.get(node.number) is node:
            if node.lookups or node.handles or node.children:
                return
            del self._by_number[node.number]
            if self._by_identity.get(node.identity) is node:
                del self._by_identity[node.identity]
            self._let_go(node)
            node = node.parent
            if node is not None:
                node.children -= 1

    def inode(self, st: os.stat_result) -> int:
        """The inode number for the guest. What lies on another device of the host gets numbers of its own."""
        device = self._devices.setdefault(st.st_dev, len(self._devices))
        return st.st_ino ^ (device << 48)

    # back to the host

    def status(self, node: FileNode) -> os.stat_result:
        """What the host says of it now. Raises ESTALE, ENOENT."""
        if node.number == ROOT:
            return os.fstat(self._root)
        if node.handles and not node.is_directory and node is not self._followed:
            return os.fstat(node.handles[-1])
        if node.gone is not None:
            return node.gone
        try:
            return self._look(self.directory(node.parent), node)
        except OSError:
            if node.handles:  # somebody has it open: there is no name to look up anew
                return os.fstat(node.handles[-1])
            raise

    def _look(self, parent: int, node: FileNode) -> os.stat_result:
        try:
            st = os.stat(node.name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise stale() from None  # it may well have another name: a hard link, or one that the host gave it
        if not self._is_still(node, st):
            raise stale()
        return st

    def open(self, node: FileNode, flags: int) -> int:
        """A new descriptor of it: of a link only as such (O_PATH, the guest resolves it), of a device or FIFO of the
        host never. Raises ELOOP, EACCES."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        if node.number == ROOT:
            return os.open(str(self._root), flags & ~os.O_NOFOLLOW, dir_fd=self._own)
        if node.handles and not node.is_directory and not self._has_its_name(node):
            return os.open(str(node.handles[-1]), flags & ~os.O_NOFOLLOW, dir_fd=self._own)
        if node.gone is not None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        # What can be waited for at an open (a FIFO's other end) would hold up everybody.
        try:
            checked = os.open(node.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory(node.parent))
        except FileNotFoundError:
            raise stale() from None
        try:
            st = os.fstat(checked)
            if not self._is_still(node, st):
                raise stale()
            if flags & os.O_PATH:
                descriptor, checked = checked, -1
                return descriptor
            if stat.S_ISLNK(st.st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if not (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            return os.open(str(checked), flags & ~os.O_NOFOLLOW, dir_fd=self._own)
        finally:
            if checked >= 0:
                os.close(checked)

    def _has_its_name(self, node: FileNode) -> bool:
        """False for one whose name is gone: only who has it open reaches it. Raises ESTALE where the name leads
        elsewhere: the guest's kernel may take an old name for true for a moment, and must not get the old file by
        it."""
        if node.gone is not None:
            return False
        try:
            st = os.stat(node.name, dir_fd=self.directory(node.parent), follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not self._is_still(node, st):
            raise stale()
        return True

    def directory(self, node: FileNode | None) -> int:
        """A descriptor for a look below it, ours to keep: use it at once. Raises ESTALE, ENOTDIR, EMFILE; EROFS for a
        mount point.

        The way from the root is looked at again each time, by device and inode of every directory on it: the guest may
        take a directory's name for true for long, because we do not. That costs a microsecond for each, a question of
        the guest a hundred.
        """
        chain: list[FileNode] = []
        while node is not None and node.number != ROOT:
            chain.append(node)
            if len(chain) > MAX_DEPTH:  # directories that the host has moved into each other, by what the guest knows
                raise stale()
            node = node.parent
        descriptor = self._root
        for each in reversed(chain):
            if each.is_mount_point:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            if each.gone is not None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if each.descriptor >= 0:
                self._look(descriptor, each)
                self._used.move_to_end(each.number)
                descriptor = each.descriptor
            else:
                descriptor = self._enter(descriptor, each)
        return descriptor

    def _enter(self, parent: int, node: FileNode) -> int:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(node.name, flags, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            raise stale() from None
        st = os.fstat(descriptor)
        if (st.st_dev, st.st_ino) != node.identity:
            os.close(descriptor)
            raise stale()
        node.descriptor = descriptor
        self._used[node.number] = node
        while len(self._used) > self._limit:
            _, oldest = self._used.popitem(last=False)
            if oldest is not node:
                os.close(oldest.descriptor)
                oldest.descriptor = -1
        return descriptor

    def _let_go(self, node: FileNode) -> None:
        if self._used.pop(node.number, None) is not None:
            os.close(node.descriptor)
        node.descriptor = -1
