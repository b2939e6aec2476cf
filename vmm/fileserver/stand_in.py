"""A second process of each file server, idle until that is dead: then it answers what the guest has asked.

virtiofs has no way to give up a request (`no_control` in fs/fuse/virtio_fs.c), so a process in the guest that waits for
a dead server would wait until the machine ends, whatever signal it gets, and the device could not be unplugged. Only
who has the guest's memory can answer. The stand-in has that, and the places of the queues, and no file: it was made by
fork(2) of the server that had shut itself in, hears from it what QEMU says, and looks at the guest's memory only after
the server has ended. Each request, also a later one, gets ENOTCONN: what the guest's kernel says itself of a device
that was unplugged.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import os
import select
import signal
import socket
import sys

from vmm import confine, system_calls
from vmm.fileserver import ANSWERED, fuse
from vmm.fileserver.ring import RECORD, DescriptorChain, Ring
from vmm.fileserver.server import NO_ANSWER, describe, put, take
from vmm.fileserver.vhost import QUEUES, Device, Heir

ERROR_SIZE = fuse.OUT_HEADER.size


def start(report: int) -> tuple[Heir | None, list[memoryview]]:
    """Fork it; returns the way to it, and the records that the queues are to have. Before there are threads.

    It ends when nobody reads `report` any more. None where no process can be made: then there is no stand-in.
    """
    whole = memoryview(mmap.mmap(-1, QUEUES * RECORD + 1))
    records = [whole[RECORD * at : RECORD * (at + 1)] for at in range(QUEUES)]
    given_up = whole[QUEUES * RECORD :]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for it
    ours, theirs = socket.socketpair()
    try:
        child = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        return None, records
    if child:
        theirs.close()
        return Heir(ours, given_up), records
    try:
        gc.disable()  # its pages stay shared with the server
        confine.close_others({0, 1, 2, report, theirs.fileno()})
        system_calls.refuse()
        StandIn(Heir(theirs, given_up), records, report).run()
    except Exception as error:
        print(f"the stand-in of the file server ends: {describe(error)}", file=sys.stderr)
    finally:
        os._exit(0)


def release(heir: Heir | None) -> None:
    """The server ends in good order, so there is nothing to answer."""
    if heir is not None:
        heir.give_up()


class StandIn:
    """Follows the server by the socket of `told`, and takes its place when that has no other end any more."""

    def __init__(self, told: Heir, records: list[memoryview], report: int) -> None:
        self._told = told
        self._records = records
        self._report = report
        self._device = Device(told.socket)

    def run(self) -> None:
        """Raises as `Device.handle` does."""
        while self._device.follow():
            pass
        if not self._told.given_up[0]:
            self._answer_all()

    def _answer_all(self) -> None:
        for ring, record in zip(self._device.rings, self._records, strict=True):
            for chain in ring.orphans(record):
                refuse(ring, chain)
            answer(ring)
            if ring.ready:  # of the server's last answer the guest may not have been told
                ring.tell()
        with contextlib.suppress(OSError):
            os.write(self._report, f"{ANSWERED}\n".encode())
        poll = select.poll()
        poll.register(self._report, 0)  # its error: nobody reads it
        kicks = {ring.kick: ring for ring in self._device.rings if ring.kick >= 0}
        for kick in kicks:
            os.set_blocking(kick, False)
            poll.register(kick, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor not in kicks:
                    return
                with contextlib.suppress(OSError):
                    os.eventfd_read(descriptor)
                answer(kicks[descriptor])


def answer(ring: Ring) -> None:
    """All that waits in the ring. Raises BrokenRing, OutsideMemory."""
    while ring.ready and (chain := ring.pop()) is not None:
        refuse(ring, chain)


def refuse(ring: Ring, chain: DescriptorChain) -> None:
    head, _ = take(chain.readable, fuse.IN_HEADER.size)
    written = 0
    if len(head) == fuse.IN_HEADER.size:
        _, operation, unique, *_ = fuse.IN_HEADER.unpack(head)
        if operation not in NO_ANSWER:
            written = put(chain.writable, fuse.OUT_HEADER.pack(ERROR_SIZE, -errno.ENOTCONN, unique))
    ring.push(chain, written)
