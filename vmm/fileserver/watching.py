"""What the host changes in a share, for those in the guest who watch it: FUSE tells a guest's inotify of nothing.

The directories that the guest has looked into are watched, the first MOST_WATCHED of them. Each change of the guest's
own comes from us, so its events are taken out of the queue right after it. What is left is the host's. It is gathered
for a moment, told as paths below the shared directory, and not told again before the other side has answered: whatever
happens here, at most MOST_TOLD names are on their way, and some thousand wait.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import struct
import time

from vmm.fileserver.hiding import Hiding
from vmm.fileserver.mount_points import MountPoints
from vmm.fileserver.nodes import FileNode, Nodes

MOST_WATCHED = 8192  # a user may have some 10,000 to a million on all of the system
MOST_TOLD, MOST_BYTES = 500, 64 << 10  # in one message
MOST_IN_ONE, MOST_GATHERED = 500, 4000  # names in one directory and in all; of more, the directory alone is told
SETTLE_S = 0.02  # how long changes are gathered
MODIFY, ATTRIB, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200  # linux/inotify.h
ISDIR, IGNORED, OVERFLOW, ONLYDIR, DONT_FOLLOW = 0x40000000, 0x8000, 0x4000, 0x1000000, 0x2000000
WANTED = MODIFY | ATTRIB | MOVED_FROM | MOVED_TO | CREATE | DELETE
OF_DIRECTORY = MOVED_FROM | MOVED_TO | CREATE | DELETE  # it has other names in it now
EVENT = struct.Struct("iIII")
BUFFER = 1 << 16
libc = ctypes.CDLL(None, use_errno=True)


def joined(above: str, name: str) -> str:
    return f"{above}/{name}" if above and name else above or name


class Watching:
    """`other` is a connection: a JSON list of paths and a line's end goes there, one byte for each comes back."""

    def __init__(
        self, other: socket.socket, root: int, nodes: Nodes, hiding: Hiding, mount_points: MountPoints
    ) -> None:
        """Raises OSError where this system has no inotify."""
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        other.setblocking(False)
        self.other = other
        self.due: float | None = None  # when what was gathered is to be told
        self._root, self._nodes, self._hiding, self._mount_points = root, nodes, hiding, mount_points
        self._watched: dict[int, FileNode] = {}
        self._known: dict[int, int] = {}  # the watch of each directory's node
        self._gathered: dict[str, dict[str, None]] = {}  # names in each directory; "" is the directory itself
        self._count = 0  # of those names
        self._whole: set[str] = set()  # directories in which there were too many: they alone are told
        self._awaits_answer = False
        self._full = False

    def watch(self, node: FileNode) -> None:
        """The guest looks into this directory."""
        if node.number in self._known or self._full or not node.is_directory or node.is_mount_point:
            return
        try:
            # From the very directory, which was found name by name: no path is resolved.
            os.fchdir(self._nodes.directory(node))
            try:
                number = libc.inotify_add_watch(self.descriptor, b".", WANTED | ONLYDIR | DONT_FOLLOW)
            finally:
                os.fchdir(self._root)
        except OSError:
            return
        if number < 0:
            self._full = True
            return
        if (before := self._watched.get(number)) is not None:
            self._known.pop(before.number, None)  # the same directory by another number
        self._watched[number] = node
        self._known[node.number] = number
        self._full = len(self._watched) >= MOST_WATCHED

    def forget_all(self) -> None:
        """The guest begins anew, with other numbers."""
        for number in self._watched:
            libc.inotify_rm_watch(self.descriptor, number)
        self._watched.clear()
        self._known.clear()
        self._gathered.clear()
        self._whole.clear()
        self._count = 0
        self._full = False

    def begin_change(self) -> None:
        """The guest is about to change something: what is in the queue is the host's."""
        if self._watched:
            self.gather()

    def end_change(self) -> None:
        """What is in the queue now is of the guest's own change."""
        if self._watched:
            self.gather(to_tell=False)

    def gather(self, *, to_tell: bool = True) -> None:
        """Empty the queue."""
        while True:
            try:
                data = os.read(self.descriptor, BUFFER)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                number, mask, _, size = EVENT.unpack_from(data, at)
                name = data[at + EVENT.size : at + EVENT.size + size].rstrip(b"\0")
                at += EVENT.size + size
                if mask & IGNORED:
                    if (ended := self._watched.pop(number, None)) is not None:
                        self._known.pop(ended.number, None)
                        self._full = False
                elif to_tell or mask & OVERFLOW:
                    self._note(number, mask, os.fsdecode(name))

    def _note(self, number: int, mask: int, name: str) -> None:
        if mask & OVERFLOW:
            for each in list(self._watched.values()):
                self._add(each, "")
            return
        node = self._watched.get(number)
        if node is None:
            return
        if mask & OF_DIRECTORY:
            self._add(node, "")
        if name and not mask & (DELETE | MOVED_FROM) and not (mask & ISDIR and mask & ATTRIB):
            self._add(node, name)

    def _add(self, node: FileNode, name: str) -> None:
        try:
            above = self._nodes.path(node)
        except OSError:
            return
        if name and (self._hiding.may_hide(joined(above, name)) or name in self._mount_points.names(above)):
            return
        names = self._gathered.setdefault(above, {})
        if above not in self._whole and name not in names:
            if len(names) >= MOST_IN_ONE or self._count >= MOST_GATHERED:
                self._count -= len(names)
                names.clear()
                self._whole.add(above)
                name = ""
            names[name] = None
            self._count += 1
        if self.due is None and not self._awaits_answer:
            self.due = time.monotonic() + SETTLE_S

    def wait_s(self) -> float | None:
        """How long until there is something to tell; None while there is not."""
        return None if self.due is None else max(self.due - time.monotonic(), 0.0)

    def tell(self) -> None:
        """If it is time: the other side gets what was gathered."""
        if self.due is None or self.due > time.monotonic():
            return
        self.due = None
        paths, room = list[str](), MOST_BYTES  # all of it fits into the connection, on which nothing else is on its way
        while self._gathered and len(paths) < MOST_TOLD and room > 0:
            above, names = next(iter(self._gathered.items()))
            name, _ = names.popitem()
            self._count -= 1
            if not names:
                del self._gathered[above]
                self._whole.discard(above)
            paths.append(joined(above, name))
            room -= len(json.dumps(paths[-1])) + 2
        with contextlib.suppress(OSError):
            self.other.sendall(json.dumps(paths).encode() + b"\n")
            self._awaits_answer = True

    def answered(self) -> bool:
        """The other side is ready for more. False when it has gone."""
        try:
            if not self.other.recv(64):
                return False
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._awaits_answer = False
        if self._gathered:
            self.due = time.monotonic() + SETTLE_S
        return True

    def close(self) -> None:
        os.close(self.descriptor)
        self.other.close()
        self._watched.clear()
