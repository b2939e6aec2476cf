"""The other side of a file server, without a machine: QEMU's half of vhost-user, a virtio driver and a FUSE client.

It can say what a kernel says, and whatever else root in a guest can.
"""

from __future__ import annotations

import array
import errno
import mmap
import os
import select
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmm.fileserver import fuse

SIZE = 16 << 20
USER = 0x7F0000000000  # where QEMU would have it mapped
ENTRIES = 64
TABLE, AVAILABLE, USED = 0, 0x4000, 0x8000  # of ring 1; ring 0 lies 0x10000 further
REQUEST, ANSWER = 0x100000, 0x400000
ANSWER_S = 20.0


class FuseError(Exception):
    """The server refused: `name` is the errno's name."""

    def __init__(self, number: int) -> None:
        self.name = errno.errorcode.get(number, str(number))
        super().__init__(self.name)


class Silent(Exception):
    """The server did not answer."""


class FuseClient:
    """One guest. A context manager."""

    def __init__(self, path: Path, *, start: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(ANSWER_S)
        self.socket.connect(str(path))
        self._file = os.memfd_create("guest")
        os.ftruncate(self._file, SIZE)
        self.memory = mmap.mmap(self._file, SIZE)
        self._words = memoryview(self.memory).cast("H")  # for indexes: struct.pack_into clears before it writes
        self.kicks, self.calls = [os.eventfd(0), os.eventfd(0)], [os.eventfd(0), os.eventfd(0)]
        self._available = [0, 0]
        self.unanswered = [0, 0]  # requests of each ring that nobody waits for
        self.server_lives = True  # else nobody waits for it to close the connection
        self._unique = 1
        if start:
            self._start()

    def __enter__(self) -> FuseClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self._words.release()
        self.memory.close()
        for descriptor in (self._file, *self.kicks, *self.calls):
            os.close(descriptor)

    # vhost-user

    def say(self, request: int, payload: bytes = b"", descriptors: Sequence[int] = (), *, flags: int = 1) -> None:
        message = struct.pack("<III", request, flags, len(payload)) + payload
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.socket.sendmsg([message], ancillary)

    def ask(self, request: int, payload: bytes = b"", descriptors: Sequence[int] = ()) -> bytes:
        self.say(request, payload, descriptors, flags=9)
        _, _, size = struct.unpack("<III", self._exactly(12))
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "the server has gone"
            data += more
        return data

    def _start(self) -> None:
        self.say(3)
        self.say(2, self.ask(1))
        self.say(16, self.ask(15))
        self.ask(5, struct.pack("<IIQQQQ", 1, 0, 0, SIZE, USER, 0), [self._file])
        for ring in (0, 1):
            self.start_ring(ring)

    def start_ring(self, ring: int) -> None:
        base = (1 - ring) * 0x10000
        self.memory[base : base + 0x10000] = bytes(0x10000)
        self._available[ring] = 0
        self.ask(8, struct.pack("<II", ring, ENTRIES))
        self.ask(10, struct.pack("<II", ring, 0))
        at = USER + base
        self.ask(9, struct.pack("<IIQQQQ", ring, 0, at + TABLE, at + USED, at + AVAILABLE, 0))
        self.ask(12, struct.pack("<Q", ring), [self.kicks[ring]])
        self.ask(13, struct.pack("<Q", ring), [self.calls[ring]])
        self.ask(18, struct.pack("<II", ring, 1))

    def stop_ring(self, ring: int) -> None:
        self.ask(11, struct.pack("<II", ring, 0))

    # the ring

    def offer(
        self, descriptors: Sequence[tuple[int, int, int, int]], ring: int = 1, head: int = 0, jump: int = 1
    ) -> int:
        """Offer a chain, written as it is, without waiting; `jump` is how far the index goes. Returns the slot."""
        base = (1 - ring) * 0x10000
        for at, descriptor in enumerate(descriptors):
            struct.pack_into("<QIHH", self.memory, base + TABLE + 16 * at, *descriptor)
        slot = self._available[ring] % ENTRIES
        struct.pack_into("<H", self.memory, base + AVAILABLE + 4 + 2 * slot, head)
        self._available[ring] = (self._available[ring] + jump) & 0xFFFF
        self._words[(base + AVAILABLE + 2) // 2] = self._available[ring]
        os.eventfd_write(self.kicks[ring], 1)
        return slot

    def chain(self, descriptors: Sequence[tuple[int, int, int, int]], ring: int = 1) -> int:
        """Offer a chain and wait; returns the number of bytes that the device says it filled."""
        slot = self.offer(descriptors, ring)
        return self.wait(slot, ring)

    def wait(self, slot: int, ring: int = 1) -> int:
        """Until all that was offered is done, but for the `unanswered` ones."""
        base = (1 - ring) * 0x10000
        done = (self._available[ring] - self.unanswered[ring]) & 0xFFFF
        signs = [self.calls[ring], self.socket] if self.server_lives else [self.calls[ring]]
        while struct.unpack_from("<H", self.memory, base + USED + 2)[0] != done:
            ready, _, _ = select.select(signs, [], [], ANSWER_S)
            if self.calls[ring] not in ready:
                raise Silent
            os.eventfd_read(self.calls[ring])
        return int(struct.unpack_from("<II", self.memory, base + USED + 4 + 8 * slot)[1])

    def restart(self) -> None:
        """As a driver that begins anew."""
        for ring in (0, 1):
            self.stop_ring(ring)
            self.start_ring(ring)

    def send(self, operation: int, node: int, body: bytes = b"", room: int = 65536, length: int | None = None) -> bytes:
        """One request and what follows the answer's header. Raises FuseError, Silent."""
        self.wait(self.begin(operation, node, body, room, length))
        return self.answer()

    def begin(self, operation: int, node: int, body: bytes = b"", room: int = 65536, length: int | None = None) -> int:
        """Make one request without waiting; returns its slot."""
        self._unique += 2
        size = fuse.IN_HEADER.size + len(body)
        header = fuse.IN_HEADER.pack(size if length is None else length, operation, self._unique, node, 0, 0, 1, 0, 0)
        self.memory[REQUEST : REQUEST + size] = header + body
        self.memory[ANSWER : ANSWER + 16] = bytes(16)
        return self.offer([(REQUEST, size, 1, 1), (ANSWER, 16, 3, 2), (ANSWER + 16, room, 2, 0)])

    def answer(self) -> bytes:
        """To the last request. Raises FuseError."""
        length, error, unique = fuse.OUT_HEADER.unpack_from(self.memory, ANSWER)
        assert unique == self._unique, "an answer to another request"
        if error:
            raise FuseError(-error)
        return self.memory[ANSWER + 16 : ANSWER + length]

    # FUSE

    def init(self) -> tuple[Any, ...]:
        body = fuse.INIT_IN.pack(7, 41, 131072, 0xFFFFFFFF) + struct.pack("<I", 0xFFFFFFFF) + bytes(44)
        return fuse.INIT_OUT.unpack(self.send(fuse.INIT, 0, body))

    def look_up(self, parent: int, name: str | bytes) -> int:
        answer = self.send(fuse.LOOKUP, parent, text(name))
        return int(fuse.ENTRY.unpack_from(answer)[0])

    def walk(self, path: str) -> int:
        node = 1
        for part in path.split("/"):
            node = self.look_up(node, part)
        return node

    def place(self, path: str) -> tuple[int, str]:
        """The node of a path's directory, and the name in it. Raises FuseError."""
        above, _, name = path.rpartition("/")
        return self.walk(above) if above else 1, name

    def attributes(self, node: int) -> tuple[Any, ...]:
        answer = self.send(fuse.GETATTR, node, fuse.GETATTR_IN.pack(0, 0, 0))
        return fuse.ATTRIBUTES.unpack_from(answer, fuse.ATTR_OUT.size)

    def open(self, node: int, flags: int) -> tuple[int, int]:
        """(handle, the server's flags)"""
        handle, how, _ = fuse.OPEN_OUT.unpack(self.send(fuse.OPEN, node, fuse.OPEN_IN.pack(flags, 0)))
        return handle, how

    def create(self, parent: int, name: str | bytes, flags: int = os.O_RDWR, mode: int = 0o644) -> tuple[int, int]:
        """(node, handle)"""
        answer = self.send(fuse.CREATE, parent, fuse.CREATE_IN.pack(flags, mode, 0, 0) + text(name))
        return fuse.ENTRY.unpack_from(answer)[0], fuse.OPEN_OUT.unpack_from(answer, len(answer) - 16)[0]

    def read(self, node: int, handle: int, size: int = 4096, offset: int = 0) -> bytes:
        return self.send(fuse.READ, node, fuse.READ_IN.pack(handle, offset, size, 0, 0, 0, 0), room=max(size, 16))

    def write(self, node: int, handle: int, data: bytes, offset: int = 0) -> int:
        body = fuse.WRITE_IN.pack(handle, offset, len(data), 0, 0, 0, 0) + data
        return int(fuse.WRITE_OUT.unpack(self.send(fuse.WRITE, node, body))[0])

    def release(self, node: int, handle: int) -> None:
        self.send(fuse.RELEASE, node, fuse.RELEASE_IN.pack(handle, 0, 0, 0))

    def make_directory(self, parent: int, name: str | bytes) -> int:
        return int(fuse.ENTRY.unpack_from(self.send(fuse.MKDIR, parent, fuse.MKDIR_IN.pack(0o755, 0) + text(name)))[0])

    def rename(self, parent: int, old: str | bytes, target: int, new: str | bytes, flags: int = 0) -> None:
        names = text(old) + text(new)
        if flags:
            self.send(fuse.RENAME2, parent, fuse.RENAME2_IN.pack(target, flags, 0) + names)
        else:
            self.send(fuse.RENAME, parent, fuse.RENAME_IN.pack(target) + names)

    def listing(self, node: int) -> list[str]:
        handle, _, _ = fuse.OPEN_OUT.unpack(self.send(fuse.OPENDIR, node, fuse.OPEN_IN.pack(0, 0)))
        names, offset = [], 0
        while data := self.send(fuse.READDIR, node, fuse.READ_IN.pack(handle, offset, 4096, 0, 0, 0, 0)):
            at = 0
            while at < len(data):
                _, offset, length, _ = fuse.DIRENT.unpack_from(data, at)
                names.append(data[at + 24 : at + 24 + length].decode())
                at += 24 + length + -length % 8
        self.send(fuse.RELEASEDIR, node, fuse.RELEASE_IN.pack(handle, 0, 0, 0))
        return names

    def lock(self, node: int, handle: int, owner: int, kind: int, start: int, end: int, *, wait: bool = False) -> None:
        body = fuse.LOCK_IN.pack(handle, owner, start, end, kind, 1, 0, 0)
        self.send(fuse.SETLKW if wait else fuse.SETLK, node, body)

    def test_lock(self, node: int, handle: int, owner: int, kind: int, start: int, end: int) -> tuple[int, int, int]:
        body = fuse.LOCK_IN.pack(handle, owner, start, end, kind, 1, 0, 0)
        start, end, kind, _ = fuse.LOCK_OUT.unpack(self.send(fuse.GETLK, node, body))
        return kind, start, end

    def flush(self, node: int, handle: int, owner: int) -> None:
        self.send(fuse.FLUSH, node, fuse.FLUSH_IN.pack(handle, 0, 0, owner))


def text(name: str | bytes) -> bytes:
    return (name.encode() if isinstance(name, str) else name) + b"\0"
