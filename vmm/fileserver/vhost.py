"""The device's end of vhost-user: QEMU says where the guest's memory and rings are, we serve them.

Source: QEMU's docs/interop/vhost-user.rst. Only what a file system needs is offered. QEMU stores the state of the
device with the machine's and gives it back (migration.py), always while the guest stands still: so no page has to be
marked as changed. QEMU is on the other side of this socket; a guest that has taken QEMU over may say anything here, and
gets no further than an ended process.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vmm.fileserver.guest_memory import GuestMemory
from vmm.fileserver.ring import Ring

HEADER = struct.Struct("<III")
U64 = struct.Struct("<Q")
STATE = struct.Struct("<II")
ADDRESSES = struct.Struct("<IIQQQQ")
REGION = struct.Struct("<QQQQ")
MAX_PAYLOAD, MAX_REGIONS, MAX_FDS = 4096, 8, 8
MAX_STATE = 512 << 20


class VhostMessage:
    """What QEMU can ask, by number."""

    GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE = 1, 2, 3, 4, 5
    SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
    SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = 12, 13, 14
    GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE = 15, 16, 17, 18
    SET_LOG_BASE, SET_LOG_FD, SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE = 6, 7, 42, 43


VERSION, REPLY, NEED_REPLY = 1, 1 << 2, 1 << 3
NO_DESCRIPTOR = 1 << 8
# What says where memory and rings are.
PLACES = {
    VhostMessage.SET_FEATURES, VhostMessage.SET_MEM_TABLE, VhostMessage.SET_VRING_NUM, VhostMessage.SET_VRING_ADDR,
    VhostMessage.SET_VRING_BASE, VhostMessage.GET_VRING_BASE, VhostMessage.SET_VRING_KICK,
    VhostMessage.SET_VRING_CALL, VhostMessage.SET_VRING_ENABLE,
}  # fmt: skip

F_PROTOCOL_FEATURES, F_VERSION_1, F_INDIRECT, F_LOG_ALL = 1 << 30, 1 << 32, 1 << 28, 1 << 26
P_MQ, P_LOG_SHMFD, P_REPLY_ACK, P_DEVICE_STATE = 1 << 0, 1 << 1, 1 << 3, 1 << 19
SAVE, LOAD = 0, 1
QUEUES = 2


class VhostError(Exception):
    """QEMU said what it may not say, or has gone."""


class Served(Protocol):
    """What is behind the queues."""

    def settle(self, ring: Ring) -> None:
        """The ring is about to be stopped: answer all that was taken from it."""

    def save(self) -> bytes:
        """What the guest knows of it."""
        ...

    def load(self, data: bytes) -> None:
        """Go on with what `save` gave. Raises ValueError."""


@dataclass(frozen=True)
class Heir:
    """The way to a process that follows this one. Both see `given_up`: one byte, not 0 where it is not to take over."""

    socket: socket.socket
    given_up: memoryview

    def give_up(self) -> None:
        """It ends without an answer to anybody. In this order: it looks at the byte once it hears the end."""
        self.given_up[0] = 1
        self.socket.close()


class Device:
    """One connection, its memory and its queues: the first is for FORGET, the others for requests.

    `records` are those of the queues, and `heir` gets what QEMU says of its PLACES, where another process is to know.
    """

    def __init__(
        self,
        connection: socket.socket,
        records: Sequence[memoryview | None] = (None,) * QUEUES,
        heir: Heir | None = None,
    ) -> None:
        self.connection = connection
        self.rings = [Ring(record) for record in records]
        self._heir = heir
        self.memory: GuestMemory | None = None
        self.served: Served | None = None
        self._placed: dict[int, tuple[int, int, int]] = {}
        self._transfer: Callable[[], bool] | None = None  # to be done once QEMU has its answer
        self._transferred = True

    def handle(self) -> bool:
        """Read one message and do it; False when QEMU has closed.

        Raises VhostError, OSError, OutsideMemory, BrokenRing.
        """
        if (received := self._receive()) is None:
            return False
        request, flags, payload, descriptors = received
        with self._passing_on(request, payload, descriptors):
            answer = self._act(request, payload, descriptors)
        if answer is None and flags & NEED_REPLY:
            answer = U64.pack(0)
        if answer is not None:
            self.connection.sendall(HEADER.pack(request, VERSION | REPLY, len(answer)) + answer)
        if self._transfer is not None:
            work, self._transfer = self._transfer, None
            self._transferred = work()
        return True

    def follow(self) -> bool:
        """Read one message that another process has passed on and do it; False when there is none any more.

        Raises as `handle` does.
        """
        if (received := self._receive()) is None:
            return False
        request, _, payload, descriptors = received
        self._act(request, payload, descriptors)
        return True

    @contextlib.contextmanager
    def _passing_on(self, request: int, payload: bytes, descriptors: Sequence[int]) -> Iterator[None]:
        """Tell the other process, if there is one, once the block has taken it for right."""
        if self._heir is None or request not in PLACES:
            yield
            return
        copies = array.array("i", [os.dup(descriptor) for descriptor in descriptors])
        try:
            yield
            self._pass_on(HEADER.pack(request, VERSION, len(payload)) + payload, copies)
        finally:
            for copy in copies:
                os.close(copy)

    def _pass_on(self, message: bytes, descriptors: array.array[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
        assert self._heir is not None
        try:
            self._heir.socket.sendmsg([message], rights, socket.MSG_DONTWAIT)
        except OSError:  # it is gone, or does not listen: we do without
            self._heir.give_up()
            self._heir = None

    def _act(self, request: int, payload: bytes, descriptors: list[int]) -> bytes | None:
        try:
            return self._do(request, payload, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)  # those that were taken are no longer in the list

    def close(self) -> None:
        for ring in self.rings:
            ring.stop()
            ring.replace("call", -1)
        if self.memory is not None:
            self.memory.close()
        self.connection.close()

    def _receive(self) -> tuple[int, int, bytes, list[int]] | None:
        space = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        head, ancillary, message_flags, _ = self.connection.recvmsg(HEADER.size, space, socket.MSG_CMSG_CLOEXEC)
        descriptors: list[int] = []
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
                descriptors += numbers
        if not head:
            return None
        if message_flags & socket.MSG_CTRUNC:
            raise VhostError("too many descriptors in one message")
        head += self._rest(HEADER.size - len(head))
        request, flags, size = HEADER.unpack(head)
        if flags & 3 != VERSION or size > MAX_PAYLOAD:
            raise VhostError(f"message {request} with flags {flags:#x} and {size} bytes")
        return request, flags, self._rest(size), descriptors

    def _rest(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (more := self.connection.recv(size - len(data))):
                raise VhostError("a message without its end")
            data += more
        return data

    def _do(self, request: int, payload: bytes, descriptors: list[int]) -> bytes | None:
        try:
            match request:
                case VhostMessage.GET_FEATURES:
                    return U64.pack(F_VERSION_1 | F_PROTOCOL_FEATURES | F_INDIRECT | F_LOG_ALL)
                case VhostMessage.GET_PROTOCOL_FEATURES:
                    return U64.pack(P_MQ | P_REPLY_ACK | P_LOG_SHMFD | P_DEVICE_STATE)
                case VhostMessage.GET_QUEUE_NUM:
                    return U64.pack(len(self.rings))
                case (
                    VhostMessage.SET_FEATURES
                ):  # without protocol features a ring would start enabled; QEMU always takes them
                    for ring in self.rings:
                        ring.enabled = ring.enabled or not U64.unpack(payload)[0] & F_PROTOCOL_FEATURES
                case VhostMessage.SET_OWNER | VhostMessage.RESET_OWNER | VhostMessage.SET_PROTOCOL_FEATURES:
                    pass
                case VhostMessage.SET_MEM_TABLE:
                    self._set_memory(payload, descriptors)
                case VhostMessage.SET_VRING_NUM:
                    index, number = STATE.unpack(payload)
                    if index in self._placed:
                        raise VhostError("another size for a queue that is in use")
                    self.rings[index].size = number
                case VhostMessage.SET_VRING_ADDR:
                    index, _, table, used, available, _ = ADDRESSES.unpack(payload)
                    if index >= len(self.rings):
                        raise IndexError(index)
                    self._placed[index] = (table, available, used)
                    self._place(index)
                case VhostMessage.SET_VRING_BASE:
                    index, base = STATE.unpack(payload)
                    self.rings[index].last = base & 0xFFFF
                case VhostMessage.GET_VRING_BASE:  # the ring stops
                    index, _ = STATE.unpack(payload)
                    if self.served is not None:
                        self.served.settle(self.rings[index])
                    self._placed.pop(index, None)
                    return STATE.pack(index, self.rings[index].stop())
                case VhostMessage.SET_VRING_KICK | VhostMessage.SET_VRING_CALL | VhostMessage.SET_VRING_ERR:
                    (word,) = U64.unpack(payload)
                    ring = self.rings[word & 0xFF]
                    given = -1 if word & NO_DESCRIPTOR or not descriptors else descriptors.pop(0)
                    if request == VhostMessage.SET_VRING_ERR:
                        if given >= 0:
                            os.close(given)
                    else:
                        ring.replace("kick" if request == VhostMessage.SET_VRING_KICK else "call", given)
                case VhostMessage.SET_VRING_ENABLE:
                    index, number = STATE.unpack(payload)
                    self.rings[index].enabled = bool(number)
                case VhostMessage.SET_LOG_BASE:
                    return U64.pack(0)  # QEMU waits for it; nothing is ever written there
                case VhostMessage.SET_LOG_FD:
                    pass
                case VhostMessage.SET_DEVICE_STATE_FD:
                    direction, phase = STATE.unpack(payload)
                    if direction not in (SAVE, LOAD) or phase or not descriptors or self.served is None:
                        raise VhostError("a state that cannot be transferred so")
                    self._transfer = self._transferring(direction, descriptors.pop(0), self.served)
                    return U64.pack(NO_DESCRIPTOR)  # we take the descriptor that was sent
                case VhostMessage.CHECK_DEVICE_STATE:
                    return U64.pack(0 if self._transferred else 1)
                case _:
                    raise VhostError(f"message {request}, which was not offered")
        except (struct.error, IndexError, ValueError, OverflowError) as error:
            raise VhostError(f"message {request} with wrong content: {error}") from error
        return None

    @staticmethod
    def _transferring(direction: int, descriptor: int, served: Served) -> Callable[[], bool]:
        def work() -> bool:
            with os.fdopen(descriptor, "rb" if direction == LOAD else "wb") as pipe:
                if direction == SAVE:
                    pipe.write(served.save())
                    return True
                data = pipe.read(MAX_STATE)
                try:
                    served.load(data)
                except ValueError:
                    return False
                return True

        return work

    def _set_memory(self, payload: bytes, descriptors: list[int]) -> None:
        (count,) = struct.unpack_from("<I", payload)
        if not 0 < count <= MAX_REGIONS or count != len(descriptors):
            raise VhostError(f"{count} regions of memory with {len(descriptors)} descriptors")
        table = [(*REGION.unpack_from(payload, 8 + REGION.size * at), descriptors[at]) for at in range(count)]
        descriptors.clear()
        old, self.memory = self.memory, GuestMemory(table)
        for index in list(self._placed):
            self._place(index)
        if old is not None:
            old.close()

    def _place(self, index: int) -> None:
        if self.memory is None:
            raise VhostError("a ring before there is memory")
        self.rings[index].place(self.memory, *self._placed[index])
