"""A split virtqueue, from the device's side: requests out of the guest's memory, answers back into it.

Source: Virtual I/O Device (VIRTIO) Version 1.2, section 2.7. Everything in the ring is the guest's to write at any
moment, so each number is read once and checked after that.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from dataclasses import dataclass

from vmm.fileserver.guest_memory import GuestMemory

DESCRIPTOR = struct.Struct("<QIHH")
NEXT, WRITABLE, INDIRECT = 1, 2, 4
USED = struct.Struct("<II")
MAX_ENTRIES = 32768
RECORD = 6 + MAX_ENTRIES  # bytes of a ring's record: three words, and whether each head is taken
TAKEN, USED_BEFORE, ANSWERING = range(3)  # its words
MAX_SEGMENTS = 2048  # of one request: more than the largest that a kernel of ours makes (1 MiB in pages, and headers)


class BrokenRing(Exception):
    """The ring says what no driver would say. The device must stop using it."""


@dataclass(frozen=True)
class DescriptorChain:
    """One request: `head` identifies it in the ring; the device reads `readable` and fills `writable`, in order."""

    head: int
    readable: list[memoryview]
    writable: list[memoryview]
    run: int = 0  # of the ring: an answer after the guest has set it up anew is nobody's


class Ring:
    """One queue. `pop` is for one thread, `push` for any.

    `record` says, at every moment, which requests were taken and are not answered: who shares it can answer for a
    process that is no more (`orphans`). It is written so that each of them is in it wherever that process ends: a head
    is marked from when it is taken until its answer is about to be seen. Meanwhile ANSWERING is one more than the head,
    and USED_BEFORE is the index of the used entries that the guest then sees another one of.
    """

    def __init__(self, record: memoryview | None = None) -> None:
        self.size = 0
        record = memoryview(bytearray(RECORD)) if record is None else record
        self._words, self._marks = record[:6].cast("H"), record[6:]
        self.kick = -1
        self.call = -1
        self.enabled = False
        self._memory: GuestMemory | None = None
        self._descriptors = self._used = memoryview(b"")
        # In words, since the other side reads and writes an index at any moment: an item of a view of words is moved at
        # once, while `pack_into` clears the place first. A driver that sees such a 0 takes the queue for broken.
        self._available = self._used_words = self._used.cast("H")
        self._lock = threading.Lock()
        self._barrier = threading.Lock()  # taking and releasing a lock orders what the memory sees
        self._used_index = 0
        self._run = 0
        self._taken = 0  # requests that wait for their answer

    def place(self, memory: GuestMemory, descriptors: int, available: int, used: int) -> None:
        """Where it lies, by QEMU's addresses. Raises OutsideMemory, BrokenRing."""
        if not 0 < self.size <= MAX_ENTRIES or self.size & (self.size - 1):
            raise BrokenRing(f"a queue of {self.size} entries")
        with self._lock:
            self._descriptors = memory.at_user(descriptors, DESCRIPTOR.size * self.size)
            self._available = memory.at_user(available, 4 + 2 * self.size).cast("H")
            self._used = memory.at_user(used, 4 + USED.size * self.size)
            self._used_words = self._used.cast("H")
            self._used_index = self._used_words[1]
            self._memory = memory

    @property
    def last(self) -> int:
        """Of the available entries, the next that we take."""
        return self._words[TAKEN]

    @last.setter
    def last(self, value: int) -> None:
        self._words[TAKEN] = value

    @property
    def ready(self) -> bool:
        return self.enabled and self._memory is not None

    def pop(self) -> DescriptorChain | None:
        """The next request, None when there is none. Raises BrokenRing, OutsideMemory."""
        available, last = self._available[1], self.last
        if available == last:
            return None
        offered = (available - last) & 0xFFFF
        if offered + self._taken > self.size:  # a driver offers none again that is not answered
            raise BrokenRing(f"{offered + self._taken} requests in a queue of {self.size}")
        with self._barrier:  # the entry is read after the index that says that it is there
            head = self._available[2 + last % self.size]
        if head >= self.size:
            raise BrokenRing(f"descriptor {head} of {self.size}")
        self._marks[head] = 1
        self.last = (last + 1) & 0xFFFF
        with self._lock:
            self._taken += 1
        return self._chain(head)

    def orphans(self, record: memoryview) -> list[DescriptorChain]:
        """What a process that is no more had taken from this ring, by its `record`, and not answered; from now on this
        one is the ring's. Raises BrokenRing, OutsideMemory."""
        if not self.ready:
            return []
        words, marks = record[:6].cast("H"), record[6:]
        heads = {head for head in range(self.size) if marks[head]}
        self._used_index, self.last = self._used_words[1], words[TAKEN]
        if words[ANSWERING] and self._used_index == words[USED_BEFORE]:  # the guest has not seen this answer
            heads.add(words[ANSWERING] - 1)
        if self._available[1] != self.last:  # it was just taking this one, so it is still there
            heads.discard(self._available[2 + self.last % self.size])
        self._taken = len(heads)
        return [self._chain(head) for head in sorted(heads)]

    def _chain(self, head: int) -> DescriptorChain:
        memory = self._memory
        assert memory is not None
        table, size, index = self._descriptors, self.size, head
        chain = DescriptorChain(head, [], [], self._run)
        indirect = False
        for _ in range(MAX_SEGMENTS):
            if index >= size:
                raise BrokenRing(f"descriptor {index} of {size}")
            address, length, flags, following = DESCRIPTOR.unpack_from(table, DESCRIPTOR.size * index)
            if flags & INDIRECT:
                if indirect or flags & (NEXT | WRITABLE) or not length or length % DESCRIPTOR.size:
                    raise BrokenRing("an indirect table that cannot be")
                size = min(length // DESCRIPTOR.size, MAX_SEGMENTS)
                table, index, indirect = memory.at(address, size * DESCRIPTOR.size), 0, True
                continue
            view = memory.at(address, length)
            if flags & WRITABLE:
                chain.writable.append(view)
            elif chain.writable:
                raise BrokenRing("a readable part after a writable one")
            else:
                chain.readable.append(view)
            if not flags & NEXT:
                return chain
            index = following
        raise BrokenRing(f"a request of more than {MAX_SEGMENTS} parts")

    def awaits(self, chain: DescriptorChain) -> bool:
        """Whether the guest still waits for this one's answer: it has not reset the device meanwhile."""
        return chain.run == self._run and self._memory is not None

    def push(self, chain: DescriptorChain, written: int) -> None:
        """The request is done and `written` bytes of its writable part are filled; the guest is told."""
        with self._lock:
            if not self.awaits(chain):
                return
            self._taken -= 1
            USED.pack_into(self._used, 4 + USED.size * (self._used_index % self.size), chain.head, written)
            self._words[USED_BEFORE] = self._used_index
            self._words[ANSWERING] = chain.head + 1
            self._marks[chain.head] = 0  # before the guest sees it, and can use the head again, which marks it anew
            self._used_index = (self._used_index + 1) & 0xFFFF
            with self._barrier:  # the entry is written before the index that says that it is there
                self._used_words[1] = self._used_index
            self._words[ANSWERING] = 0
            # Always, although a driver may say that it looks by itself: to trust that takes a barrier that we have not.
            self._tell()

    def tell(self) -> None:
        """Have the guest look at the answers, although there is no new one."""
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        if self.call >= 0:
            with contextlib.suppress(OSError):
                os.eventfd_write(self.call, 1)

    def stop(self) -> int:
        """Let go of the guest's memory; returns where the available ring stood."""
        with self._lock:
            self._memory = None
            self._run += 1
            self._taken = 0
            self._marks[: self.size] = bytes(self.size)
            self._descriptors = self._used = memoryview(b"")
            self._available = self._used_words = self._used.cast("H")
        self.replace("kick", -1)
        return self.last

    def replace(self, which: str, descriptor: int) -> None:
        """Take a new eventfd for `kick` or `call`; the old one is closed.

        QEMU sends another `call` and stops looking at the old one before we have read that: an answer that was told
        there meanwhile would be told to nobody, and the guest wait for ever. So the new one is told, answer or not.
        """
        with self._lock:  # another thread may be writing to it, and its number is soon another file's
            old: int = getattr(self, which)
            setattr(self, which, descriptor)
            if old >= 0:
                os.close(old)
            if which == "call":
                self._tell()
