"""The loop: requests from the rings to the file system, answers back."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import select
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from vmm.fileserver import fuse, migration
from vmm.fileserver.files import MAX_WRITE, Files, Later, WouldWait
from vmm.fileserver.guest_memory import OutsideMemory
from vmm.fileserver.ring import BrokenRing, DescriptorChain, Ring
from vmm.fileserver.vhost import Device
from vmm.fileserver.watching import Watching

MAX_REQUEST = MAX_WRITE + 65536
MAX_BODY = 65536  # of anything but a WRITE's data: two names and some numbers, or a list of nodes to forget
NO_ANSWER = (fuse.FORGET, fuse.BATCH_FORGET, fuse.INTERRUPT)
LETS_GO = (fuse.RELEASE, fuse.RELEASEDIR, fuse.FLUSH)  # of what may be hidden by now
TURN = 128  # requests of one ring, before we look at the others again
MAX_WAITING = 64  # locks that are waited for; far below a queue's size, as the unlock must get through
MAX_LATER = 64  # slow requests of the other threads, each with a descriptor
SMALL_BODY, ANSWER_PARTS = 64, 4  # what is enough to take a lock, or to flush, and to answer that
SETTLE_S = 5.0  # for slow requests that were begun; QEMU waits
RETRY_S = 0.01  # how often a lock that has to wait is tried again
MAX_COMPLAINTS = 20  # lines on standard error: the guest decides how often something is odd
WANTED = (
    fuse.ASYNC_READ | fuse.POSIX_LOCKS | fuse.ATOMIC_O_TRUNC | fuse.BIG_WRITES | fuse.FLOCK_LOCKS
    | fuse.AUTO_INVAL_DATA | fuse.ASYNC_DIO | fuse.PARALLEL_DIROPS | fuse.MAX_PAGES | fuse.INIT_EXT
)  # fmt: skip


class Request(NamedTuple):
    """One request of the guest. `data` is what follows the fixed part of a WRITE, where it lies in the guest's
    memory."""

    ring: Ring
    chain: DescriptorChain
    operation: int
    unique: int
    node: int
    body: bytes
    data: list[memoryview]


def take(views: list[memoryview], size: int) -> tuple[bytes, list[memoryview]]:
    """The first `size` bytes, copied (the guest could change them under us), and the rest where it is."""
    head = b""
    for at, view in enumerate(views):
        missing = size - len(head)
        if len(view) > missing:
            return head + bytes(view[:missing]), [view[missing:], *views[at + 1 :]]
        head += bytes(view)
    return head, []


def put(views: list[memoryview], data: bytes) -> int:
    """Copy `data` into `views`; what has no room is lost. Returns the number of bytes."""
    at = 0
    for view in views:
        part = data[at : at + len(view)]
        view[: len(part)] = part
        at += len(part)
        if at == len(data):
            break
    return at


def slim(request: Request) -> Request:
    """The request without what only its size made large: it is going to be kept for a while."""
    request.chain.readable.clear()
    del request.chain.writable[ANSWER_PARTS:]
    return request._replace(body=request.body[:SMALL_BODY], data=[])


def describe(error: BaseException) -> str:
    """What went wrong and where. Without the lines of our source: their paths are the guest's by now."""
    place, at = "", error.__traceback__
    while at is not None:
        place = f"{at.tb_frame.f_code.co_filename.rpartition('/')[2]}:{at.tb_lineno}"
        at = at.tb_next
    return f"{type(error).__name__} at {place}: {error}"


class Server:
    """Serves `files` to the guest behind `device`, until QEMU goes away.

    `on_begin` is called once, when there is a queue for requests: without one the guest waits for whatever it asks.
    """

    def __init__(
        self,
        device: Device,
        files: Files,
        watching: Watching | None = None,
        on_begin: Callable[[], object] = lambda: None,
    ) -> None:
        self._device = device
        self._on_begin = on_begin
        self._begun = False
        self._watching = watching
        self._files = files
        self._initialised = False
        self._waiting: list[Request] = []
        self._complaints = 0
        self._jobs: queue.SimpleQueue[tuple[Request, Callable[[], bytes]]] = queue.SimpleQueue()
        self._working: Counter[Ring] = Counter()  # jobs that are not done
        self._worked = threading.Condition()
        device.served = self
        for _ in range(2):
            threading.Thread(target=self._work, daemon=True).start()

    def run(self) -> None:
        """Until QEMU closes the connection. Raises VhostError, OSError when it speaks otherwise than it may."""
        poll = select.poll()
        connection = self._device.connection.fileno()
        poll.register(connection, select.POLLIN)
        kicks: dict[int, Ring] = {}
        unfinished: list[Ring] = []
        if self._watching is not None:
            poll.register(self._watching.descriptor, select.POLLIN)
            poll.register(self._watching.other, select.POLLIN)
        while True:
            timeout = 0 if unfinished else self._patience_ms()
            ready = {descriptor for descriptor, _ in poll.poll(timeout)}
            if connection in ready:
                if not self._device.handle():
                    return
                kicks = self._listen(poll, kicks)
                ready.update(kicks)  # a ring that was just enabled may hold requests already
                if not self._begun and any(ring.ready and ring.kick >= 0 for ring in self._device.rings[1:]):
                    self._begun = True
                    self._on_begin()
            self._watch(poll, ready)
            self._retry()
            due = dict.fromkeys([*unfinished, *(ring for kick, ring in kicks.items() if kick in ready)])
            unfinished = [ring for ring in due if self._drain(ring)]
            if any(ring.kick != kick for kick, ring in kicks.items()):
                kicks = self._listen(poll, kicks)  # of a ring that was stopped, poll(2) would tell for ever

    def _patience_ms(self) -> float | None:
        waits = [RETRY_S] if self._waiting else []
        if self._watching is not None and (wait := self._watching.wait_s()) is not None:
            waits.append(wait)
        return min(waits) * 1000 if waits else None

    def _watch(self, poll: select.poll, ready: set[int]) -> None:
        """Hear of the host's changes, and tell of them."""
        watching = self._watching
        if watching is None:
            return
        if watching.other.fileno() in ready and not watching.answered():
            poll.unregister(watching.descriptor)
            poll.unregister(watching.other)
            watching.close()
            self._watching = None
            return
        if watching.descriptor in ready:
            watching.gather()
        watching.tell()

    def _listen(self, poll: select.poll, before: dict[int, Ring]) -> dict[int, Ring]:
        for kick in before:
            with contextlib.suppress(KeyError):
                poll.unregister(kick)
        kicks = {ring.kick: ring for ring in self._device.rings if ring.kick >= 0}
        for kick in kicks:
            os.set_blocking(kick, False)
            poll.register(kick, select.POLLIN)
        # What waits in a ring that was stopped is nobody's any more.
        self._waiting = [request for request in self._waiting if request.ring.ready]
        return kicks

    def _drain(self, ring: Ring) -> bool:
        """Serve what is in the ring; True when there may be more."""
        try:
            if ring.kick < 0:
                return False  # stopped meanwhile
            with contextlib.suppress(OSError):
                os.eventfd_read(ring.kick)
            for _ in range(TURN):
                if not ring.ready or (chain := ring.pop()) is None:
                    return False
                self._serve(ring, chain)
        except (BrokenRing, OutsideMemory) as error:
            self._complain(f"a queue was stopped: {error}")
            ring.stop()
            return False
        except Exception as error:  # a mistake of ours costs this queue
            self._complain(f"a queue was stopped: {describe(error)}")
            ring.stop()
            return False
        return True

    def _serve(self, ring: Ring, chain: DescriptorChain) -> None:
        total = sum(map(len, chain.readable))
        head, rest = take(chain.readable, fuse.IN_HEADER.size)
        if len(head) < fuse.IN_HEADER.size or total > MAX_REQUEST:
            ring.push(chain, 0)
            return
        length, operation, unique, node, *_ = fuse.IN_HEADER.unpack(head)
        fixed = fuse.WRITE_IN.size if operation == fuse.WRITE else MAX_BODY
        body, data = take(rest, fixed)
        request = Request(ring, chain, operation, unique, node, body, data)
        if length != total or (data and operation != fuse.WRITE):
            self._answer(request, error=errno.EINVAL)
        else:
            self._attempt(request)

    def _attempt(self, request: Request) -> None:
        try:
            if request.operation == fuse.READ:
                self._read(request)
            else:
                self._answer(request, self._perform(request))
        except WouldWait:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(slim(request))
            else:
                self._answer(request, error=errno.ENOLCK)
        except Later as later:
            if self._jobs.qsize() < MAX_LATER:
                with self._worked:
                    self._working[request.ring] += 1
                self._jobs.put((slim(request), later.work))
            else:
                self._finish(request, later.work)
        except (struct.error, ValueError, OverflowError, UnicodeError):
            self._answer(request, error=errno.EINVAL)
        except OSError as error:
            number = error.errno or errno.EIO
            self._answer(request, error=errno.ENFILE if number == errno.EMFILE else number)
        except (BrokenRing, OutsideMemory):
            raise
        except Exception as error:  # whatever one request does, the others are served
            self._complain(describe(error))
            self._answer(request, error=errno.EIO)

    def _perform(self, request: Request) -> bytes:
        if self._watching is None or request.operation not in MAY_CHANGE:
            return self._do(request)
        self._watching.begin_change()
        try:
            return self._do(request)
        finally:
            self._watching.end_change()

    def _do(self, request: Request) -> bytes:
        files, operation = self._files, request.operation
        if operation == fuse.INIT:
            return self._initialise(request.body)
        if not self._initialised:
            raise OSError(errno.ENODEV, "")
        if operation == fuse.FORGET:
            files.nodes.forget(request.node, fuse.FORGET_IN.unpack_from(request.body)[0])
            return b""
        if operation == fuse.BATCH_FORGET:
            count, _ = fuse.BATCH_FORGET_IN.unpack_from(request.body)
            entries = request.body[fuse.BATCH_FORGET_IN.size :]
            if count * fuse.FORGET_ONE.size != len(entries):
                return b""
            for number, lookups in fuse.FORGET_ONE.iter_unpack(entries):
                files.nodes.forget(number, lookups)
            return b""
        if operation == fuse.DESTROY:
            self._begin_anew()
            return b""
        if operation == fuse.WRITE:
            return files.write(files.nodes.get(request.node), request.body, request.data)
        act = files.operations.get(operation)
        if act is None:
            # A read-only share knows what it does not do; an operation that we have not, the guest need not ask again.
            raise OSError(errno.EROFS if files.share.read_only and operation in CHANGES else errno.ENOSYS, "")
        node = files.nodes.get(request.node, to_let_go=operation in LETS_GO)
        if self._watching is not None and operation in (fuse.LOOKUP, fuse.OPENDIR):
            self._watching.watch(node)
        return act(node, request.body)

    def _begin_anew(self) -> None:
        self._files.reset()
        if self._watching is not None:
            self._watching.forget_all()

    def _initialise(self, body: bytes) -> bytes:
        major, _, readahead, offered = fuse.INIT_IN.unpack_from(body)
        more = int.from_bytes(body[16:20], sys.byteorder) if offered & fuse.INIT_EXT else 0
        if major < fuse.MAJOR:
            raise OSError(errno.EPROTO, "")
        self._begin_anew()
        self._waiting.clear()
        self._initialised = True
        return fuse.INIT_OUT.pack(
            fuse.MAJOR,
            fuse.MINOR,
            readahead,
            offered & WANTED,
            64,  # requests in the background
            48,  # of them, before the guest slows its writers down
            MAX_WRITE,
            1,  # nanosecond times
            MAX_WRITE // 4096,
            0,
            more & fuse.DIRECT_IO_ALLOW_MMAP,
            0,
        )

    def _read(self, request: Request) -> None:
        files, chain = self._files, request.chain
        head, rest = chain.writable[:1], chain.writable[1:]
        if not head or len(head[0]) < fuse.OUT_HEADER.size:
            raise OSError(errno.EINVAL, "")
        if extra := head[0][fuse.OUT_HEADER.size :]:
            rest = [extra, *rest]
        size = fuse.OUT_HEADER.size + files.read(files.nodes.get(request.node), request.body, rest)
        fuse.OUT_HEADER.pack_into(head[0], 0, size, 0, request.unique)
        request.ring.push(chain, size)

    def _answer(self, request: Request, body: bytes = b"", error: int = 0) -> None:
        if request.operation in NO_ANSWER:
            request.ring.push(request.chain, 0)
            return
        # A kernel makes room for the whole answer; who does not gets what fits, and is told of no more than that.
        writable = request.chain.writable
        body = body[: max(sum(map(len, writable)) - fuse.OUT_HEADER.size, 0)]
        header = fuse.OUT_HEADER.pack(fuse.OUT_HEADER.size + len(body), -error, request.unique)
        request.ring.push(request.chain, put(writable, header + body))

    def _retry(self) -> None:
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._attempt(request)

    def _work(self) -> None:
        while True:
            request, work = self._jobs.get()
            try:
                self._finish(request, work)
            except Exception as error:  # the other requests are served
                self._complain(describe(error))
            with self._worked:
                self._working[request.ring] -= 1
                self._worked.notify_all()

    def settle(self, ring: Ring) -> None:
        """Answer all that was taken from the ring, which is about to be stopped. Waits for the disk, up to SETTLE_S."""
        for request in self._waiting:
            if request.ring is ring:
                self._answer(request, error=errno.EAGAIN)  # who waits for a lock would wait for ever
        self._waiting = [request for request in self._waiting if request.ring is not ring]
        with self._worked:
            self._worked.wait_for(lambda: not self._working[ring], SETTLE_S)

    def save(self) -> bytes:
        return migration.save(self._files)

    def load(self, data: bytes) -> None:
        migration.load(self._files, data)
        if self._watching is not None:  # the guest has looked into all of them
            self._watching.forget_all()
            for node in self._files.nodes.each():
                self._watching.watch(node)
        self._initialised = True

    def _finish(self, request: Request, work: Callable[[], bytes]) -> None:
        """Do the `work` of a slow request, and answer it if anybody still waits."""
        try:
            body, number = work(), 0
        except OSError as error:
            body, number = b"", error.errno or errno.EIO
        if request.ring.awaits(request.chain):
            self._answer(request, body, number)

    def _complain(self, text: str) -> None:
        self._complaints += 1
        if self._complaints <= MAX_COMPLAINTS:
            print(f"{time.strftime('%H:%M:%S')} {text[-1000:]}", file=sys.stderr, flush=True)


CHANGES = (
    fuse.SETATTR, fuse.SYMLINK, fuse.MKNOD, fuse.MKDIR, fuse.UNLINK, fuse.RMDIR, fuse.RENAME, fuse.RENAME2, fuse.LINK,
    fuse.CREATE, fuse.FALLOCATE, fuse.COPY_FILE_RANGE, fuse.TMPFILE,
)  # fmt: skip
MAY_CHANGE = frozenset((*CHANGES, fuse.WRITE, fuse.OPEN))  # to open may be to cut
