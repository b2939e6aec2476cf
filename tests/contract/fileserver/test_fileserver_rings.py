"""Queues and vhost-user messages that no driver and no QEMU would write.

The server stops that queue or ends, with few words and little memory, and never hangs. A driver that sets the queue up
again is served.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fuse_client import ANSWER, ENTRIES, REQUEST, SIZE, USER, FuseClient, FuseError
from server_process import DEADLINE_S, Place, Served, wait_until

from vmm.fileserver import fuse
from vmm.virtiofs import START

NEXT, WRITABLE, INDIRECT = 1, 2, 4
MEMORY_MOST_KIB = 100_000
INDIRECT_TABLE = 0x200000


def indirect(client: FuseClient, *entries: tuple[int, int, int, int]) -> None:
    for at, entry in enumerate(entries):
        struct.pack_into("<QIHH", client.memory, INDIRECT_TABLE + 16 * at, *entry)


def plain(client: FuseClient) -> tuple[int, int, int, int]:
    return (REQUEST, 48, 0, 0)


BROKEN: dict[str, Callable[[FuseClient], object]] = {
    "a loop of one": lambda c: c.offer([(REQUEST, 16, NEXT, 0)]),
    "a loop of two": lambda c: c.offer([(REQUEST, 16, NEXT, 1), (REQUEST, 16, NEXT, 0)]),
    "a loop of nothing": lambda c: c.offer([(REQUEST, 0, NEXT, 0)]),
    "a writable loop": lambda c: c.offer([(ANSWER, 1 << 20, NEXT | WRITABLE, 0)]),
    "an address outside": lambda c: c.offer([(SIZE, 48, 0, 0)]),
    "an address far outside": lambda c: c.offer([((1 << 64) - 1, 48, 0, 0)]),
    "an address of QEMU": lambda c: c.offer([(USER, 48, 0, 0)]),
    "a range that leaves": lambda c: c.offer([(SIZE - 8, 48, 0, 0)]),
    "4 GiB to read": lambda c: c.offer([(REQUEST, 0xFFFFFFFF, 0, 0)]),
    "4 GiB to write": lambda c: c.offer([(REQUEST, 48, NEXT, 1), (ANSWER, 0xFFFFFFFF, WRITABLE, 0)]),
    "an address that wraps": lambda c: c.offer([((1 << 64) - 16, 0xFFFFFFFF, 0, 0)]),
    "writable before readable": lambda c: c.offer([(ANSWER, 64, NEXT | WRITABLE, 1), (REQUEST, 48, 0, 0)]),
    "a head out of range": lambda c: c.offer([plain(c)], head=ENTRIES),
    "a head far out of range": lambda c: c.offer([plain(c)], head=0xFFFF),
    "a next out of range": lambda c: c.offer([(REQUEST, 48, NEXT, ENTRIES)]),
    "an index that jumps": lambda c: c.offer([plain(c)], jump=ENTRIES + 1),
    "an index that jumps far": lambda c: c.offer([plain(c)], jump=0x8000),
    "an index that goes back": lambda c: c.offer([plain(c)], jump=-1),
    "indirect outside": lambda c: c.offer([(SIZE, 16, INDIRECT, 0)]),
    "indirect of nothing": lambda c: c.offer([(INDIRECT_TABLE, 0, INDIRECT, 0)]),
    "indirect of a part": lambda c: c.offer([(INDIRECT_TABLE, 17, INDIRECT, 0)]),
    "indirect with a next": lambda c: c.offer([(INDIRECT_TABLE, 16, INDIRECT | NEXT, 1), plain(c)]),
    "indirect to write": lambda c: c.offer([(INDIRECT_TABLE, 16, INDIRECT | WRITABLE, 0)]),
    "indirect in indirect": lambda c: (
        indirect(c, (INDIRECT_TABLE + 16, 16, INDIRECT, 0), (REQUEST, 16, 0, 0)),  # sound but for being the second
        c.offer([(INDIRECT_TABLE, 16, INDIRECT, 0)]),
    ),
    "a loop in indirect": lambda c: (
        indirect(c, (REQUEST, 16, NEXT, 1), (REQUEST, 16, NEXT, 0)),
        c.offer([(INDIRECT_TABLE, 32, INDIRECT, 0)]),
    ),
    "a next out of an indirect table": lambda c: (
        indirect(c, (REQUEST, 16, NEXT, 1)),
        c.offer([(INDIRECT_TABLE, 16, INDIRECT, 0)]),
    ),
}


@pytest.mark.parametrize("ring", [0, 1])
def test_a_broken_queue_is_stopped_and_can_be_set_up_again(our_place: Place, ring: int) -> None:
    """Several times with one server: what is said of it is bounded, too."""
    our_place.write("share/file", "file\n")
    with our_place.client() as (served, client):
        for number, (what, write) in enumerate(BROKEN.items()):
            place = (1 - ring) * 0x10000 + 0x8002  # the used index: what is stopped is not given back
            before = struct.unpack_from("<H", client.memory, place)
            offer = client.offer
            client.offer = lambda *a, **k: offer(*a, ring=ring, **k)  # type: ignore[method-assign]  # noqa: B023
            write(client)
            del client.offer  # type: ignore[method-assign]
            for _ in range(2):  # what was offered before the first of these has been looked at before the second
                client.ask(3)
            assert struct.unpack_from("<H", client.memory, place) == before, what
            assert served.words().count("a queue was stopped: ") == min(number + 1, 20), what
            if number % 10 == 0:
                served.assert_idle()
            client.restart()
            client.init()
            node = client.look_up(1, "file")
            handle, _ = client.open(node, os.O_RDONLY)
            assert client.read(node, handle) == b"file\n", what
        assert served.words().count("\n") == 20, "so many lines and no more"
        assert memory(served) < MEMORY_MOST_KIB


def memory(served: Served) -> int:
    """The most that it ever had, without what it shares with the guest."""
    return int(served.status("VmHWM").split()[0]) - SIZE // 1024


def test_odd_requests_in_a_sound_queue(our_place: Place) -> None:
    """They are given back, and the queue goes on."""
    our_place.write("share/file", "file\n")
    head = fuse.IN_HEADER.pack(45, fuse.LOOKUP, 9, 1, 0, 0, 1, 0, 0) + b"file\0"
    with our_place.client() as (served, client):
        client.memory[REQUEST : REQUEST + len(head)] = head
        assert client.chain([(REQUEST, 0, 0, 0)]) == 0
        assert client.chain([(REQUEST, 39, NEXT, 1), (ANSWER, 4096, WRITABLE, 0)]) == 0
        assert client.chain([(ANSWER, 4096, WRITABLE, 0)]) == 0
        assert client.chain([(REQUEST, 3 << 20, NEXT, 1), (ANSWER, 4096, WRITABLE, 0)]) == 0
        for room in (0, 1, 15, 16, 17, 100):  # of an answer, what has room
            written = client.chain([(REQUEST, len(head), NEXT, 1), (ANSWER, room, WRITABLE, 0)])
            assert written == room
        parts = [(REQUEST + at, 1, NEXT, at + 1) for at in range(len(head))]  # one byte at a time
        assert client.chain([*parts, (ANSWER, 4096, WRITABLE, 0)]) == 144
        many = [(REQUEST + at, 1 if at < len(head) else 0, NEXT, at + 1) for at in range(1500)]
        indirect(client, *many, (ANSWER, 4096, WRITABLE, 0))
        assert client.chain([(INDIRECT_TABLE, 16 * 1501, INDIRECT, 0)]) == 144
        # A table of 4 GiB is looked at as far as a request may go, and no further.
        assert client.chain([(INDIRECT_TABLE, 0xFFFFFFF0, INDIRECT, 0)]) == 144
        assert memory(served) < MEMORY_MOST_KIB
        assert client.look_up(1, "file")
        assert served.words() == ""


def test_a_read_into_very_many_parts(our_place: Place) -> None:
    our_place.write("share/file", "file\n" * 1000)
    with our_place.client() as (served, client):
        node = client.look_up(1, "file")
        handle, _ = client.open(node, os.O_RDONLY)
        body = fuse.READ_IN.pack(handle, 0, 4096, 0, 0, 0, 0)
        head = fuse.IN_HEADER.pack(40 + len(body), fuse.READ, client._unique, node, 0, 0, 1, 0, 0) + body
        client.memory[REQUEST : REQUEST + len(head)] = head
        parts = [(ANSWER + 16 + at, 1, WRITABLE | NEXT, at + 3) for at in range(1800)]
        ends = (REQUEST, len(head), NEXT, 1), (ANSWER, 16, WRITABLE | NEXT, 2)
        indirect(client, *ends, *parts, (ANSWER, 0, WRITABLE, 0))
        client.chain([(INDIRECT_TABLE, 16 * 1803, INDIRECT, 0)])
        with pytest.raises(FuseError):  # preadv(2) takes 1024; no kernel of a guest sends more than 256
            client.answer()
        assert client.read(node, handle, 10) == b"file\nfile\n"
        assert served.words() == ""


def test_what_waits_for_a_lock_is_nobodys_after_a_reset(our_place: Place) -> None:
    """Its answer would be one to a request that the new driver never made."""
    our_place.write("share/file", "file\n")
    with our_place.client() as (_, client):
        node = client.look_up(1, "file")
        handle, _ = client.open(node, os.O_RDWR)
        client.lock(node, handle, 1, 1, 0, 9)
        body = fuse.LOCK_IN.pack(handle, 2, 0, 9, 1, 1, 0, 0)
        head = fuse.IN_HEADER.pack(40 + len(body), fuse.SETLKW, 77, node, 0, 0, 1, 0, 0) + body
        client.memory[REQUEST : REQUEST + len(head)] = head
        client.offer([(REQUEST, len(head), NEXT, 1), (ANSWER, 64, WRITABLE, 0)])
        client.restart()
        client.lock(node, handle, 1, 2, 0, 9)  # the very lock is free now
        assert client.look_up(1, "file") == node
        client.init()
        assert client.look_up(1, "file")


def test_a_late_answer_does_not_enter_a_queue_that_was_set_up_anew(our_place: Place) -> None:
    """A disk that is slow: fsync(2) comes back after the driver has begun anew. It goes on where it was told to."""
    start = """
import os, sys
sys.path.insert(0, sys.argv[1])
fsync = os.fsync
def slow(descriptor):
    while os.fstat(descriptor).st_size:
        os.sched_yield()
    fsync(descriptor)
os.fsync = slow
"""
    file = our_place.write("share/file", "file\n")
    with our_place.client(start=start + START) as (served, client):
        node = client.look_up(1, "file")
        handle, _ = client.open(node, os.O_RDWR)
        body = fuse.FSYNC_IN.pack(handle, 0, 0)
        head = fuse.IN_HEADER.pack(40 + len(body), fuse.FSYNC, 77, node, 0, 0, 1, 0, 0) + body
        client.memory[REQUEST : REQUEST + len(head)] = head
        client.offer([(REQUEST, len(head), NEXT, 1), (ANSWER, 64, WRITABLE, 0)])
        for _ in range(2):
            client.ask(3)  # it has been given to a thread
        client.restart()
        held = len([name for name in served.descriptors().values() if name == "/file"])
        file.write_text("")  # the disk is done
        wait_until(
            lambda: len([name for name in served.descriptors().values() if name == "/file"]) < held, "fsync goes on"
        )
        wait_until(lambda: client.memory[ANSWER : ANSWER + 16] != bytes(16), "no answer was written")
        served.assert_idle()
        assert struct.unpack_from("<H", client.memory, 0x8002)[0] == 0, "nobody has asked anything in this queue"
        client.init()
        assert client.look_up(1, "file")


def test_an_answer_that_was_told_where_qemu_looks_no_more_is_told_again(our_place: Place) -> None:
    """QEMU changes the `call` eventfd while a request is served, and waits for no reply to that message."""
    head = fuse.IN_HEADER.pack(40 + 5, fuse.LOOKUP, 77, 1, 0, 0, 1, 0, 0) + b"file\0"
    with our_place.client() as (_, client):
        client.memory[REQUEST : REQUEST + len(head)] = head
        client.memory[ANSWER : ANSWER + 16] = bytes(16)
        used, calls = (struct.unpack_from("<H", client.memory, 0x8002)[0] + 1) & 0xFFFF, client.calls[1]
        slot = client.offer([(REQUEST, len(head), NEXT, 1), (ANSWER, 200, WRITABLE, 0)])
        wait_until(lambda: struct.unpack_from("<H", client.memory, 0x8002)[0] == used, "no answer")
        client.calls[1] = os.eventfd(0)
        os.close(calls)
        client.say(13, struct.pack("<Q", 1), [client.calls[1]])
        assert select.select([client.calls[1]], [], [], DEADLINE_S)[0], "the guest waits for ever"
        assert client.wait(slot) == 16
        assert client.chain([(REQUEST, len(head), NEXT, 1), (ANSWER, 200, WRITABLE, 0)]) == 16


# Another processor of the guest: watches the used index of ring 1 until it is `end`, and tells each step that is none.
WATCH = """
import mmap, sys
descriptor, size, at, end = map(int, sys.argv[1:])
words = memoryview(mmap.mmap(descriptor, size)).cast("H")
last = words[at // 2]
print("ready", flush=True)
while last != end:
    now = words[at // 2]
    if now < last:
        print(f"{now} after {last}", flush=True)
    last = now
"""


def test_the_used_index_is_never_seen_half_written(our_place: Place) -> None:
    """A driver that reads another number takes the queue for broken, and each request after that fails."""
    requests = 30_000
    with our_place.client() as (_, client):
        start = struct.unpack_from("<H", client.memory, 0x8002)[0]
        argv = [sys.executable, "-c", WATCH, *map(str, (client._file, SIZE, 0x8002, start + requests))]
        with subprocess.Popen(argv, pass_fds=[client._file], stdout=subprocess.PIPE, text=True) as watcher:
            assert watcher.stdout is not None and watcher.stdout.readline() == "ready\n"
            try:
                for _ in range(requests):
                    client.attributes(1)
                seen, _ = watcher.communicate(timeout=DEADLINE_S)
            finally:
                watcher.kill()
        assert seen == ""


def state(index: int, number: int) -> bytes:
    return struct.pack("<II", index, number)


def addresses(index: int, table: int = USER, used: int = USER + 0x8000, available: int = USER + 0x4000) -> bytes:
    return struct.pack("<IIQQQQ", index, 0, table, used, available, 0)


def regions(count: int, size: int = SIZE, offset: int = 0, *, sent: int | None = None) -> bytes:
    table = b"".join(struct.pack("<QQQQ", 0, size, USER, offset) for _ in range(count if sent is None else sent))
    return struct.pack("<II", count, 0) + table


# (what QEMU says): message, payload, descriptors, flags
MESSAGES: dict[str, tuple[int, bytes, tuple[str, ...], int]] = {
    **{f"ring size {size}": (8, state(1, size), (), 1) for size in (0, 3, 32769, 65535, 0xFFFFFFFF)},
    "ring 2": (8, state(2, 64), (), 1),
    "base of ring 200": (10, state(200, 0), (), 1),
    "stop of ring 9": (11, state(9, 0), (), 1),
    "kick of ring 9": (12, struct.pack("<Q", 9), ("event",), 1),
    "enable ring 77": (18, state(77, 1), (), 1),
    "ring outside of memory": (9, addresses(1, USER + SIZE - 16), (), 1),
    "ring at nothing": (9, addresses(1, 0), (), 1),
    "ring at the end of all addresses": (9, addresses(1, (1 << 64) - 1), (), 1),
    "address of ring 5": (9, addresses(5), (), 1),
    "no memory": (5, regions(0), (), 1),
    "nine regions": (5, regions(9), ("memory",) * 8, 1),
    "more regions than descriptors": (5, regions(3), ("memory",), 1),
    "fewer regions than descriptors": (5, regions(1), ("memory",) * 3, 1),
    "a table that is cut": (5, regions(2, sent=1), ("memory",) * 2, 1),
    "4 billion regions": (5, regions(0xFFFFFFFF, sent=1), ("memory",), 1),
    "memory larger than its file": (5, regions(1, SIZE * 2), ("memory",), 1),
    "memory of no size": (5, regions(1, 0), ("memory",), 1),
    "memory of all sizes": (5, regions(1, (1 << 64) - 1), ("memory",), 1),
    "memory at an offset that wraps": (5, regions(1, SIZE, (1 << 64) - SIZE), ("memory",), 1),
    "a pipe as memory": (5, regions(1), ("pipe",), 1),
    "an eventfd as memory": (5, regions(1), ("event",), 1),
    "a directory as memory": (5, regions(1), ("directory",), 1),
    "memory that is read-only": (5, regions(1), ("read-only",), 1),
    "message 0": (0, b"", (), 1),
    "message 99": (99, b"", (), 1),
    "message of 4 GiB": (1, b"", (), 1),
    "a state without a pipe": (42, struct.pack("<II", 0, 0), (), 1),
    "a state in an unknown direction": (42, struct.pack("<II", 2, 0), ("event",), 1),
    "a state of a machine that runs": (42, struct.pack("<II", 0, 1), ("event",), 1),
    "SET_SLAVE_REQ_FD": (21, b"", ("event",), 1),
    "version 0": (1, b"", (), 0),
    "version 2": (1, b"", (), 2),
    "empty payload": (8, b"", (), 1),
    "long payload": (8, bytes(4096), (), 1),
    "oversized payload": (8, bytes(5000), (), 1),
    "short addresses": (9, bytes(39), (), 1),
    "empty kick": (12, b"", ("event",), 1),
}


@pytest.mark.parametrize("what", MESSAGES)
def test_what_qemu_would_not_say_ends_the_server(our_place: Place, what: str) -> None:
    request, payload, kinds, flags = MESSAGES[what]
    with our_place.serve() as served, FuseClient(served.socket) as client:
        client.init()
        if what.startswith("ring"):
            client.stop_ring(1)
        reader, writer = os.pipe()
        opened = {
            "memory": os.memfd_create("memory"),
            "pipe": reader,
            "event": os.eventfd(0),
            "directory": os.open(our_place.base, os.O_RDONLY),
            "read-only": os.open("/dev/zero", os.O_RDONLY),
        }
        os.ftruncate(opened["memory"], SIZE)
        try:
            if what == "message of 4 GiB":
                client.socket.sendall(struct.pack("<III", 1, 1, 0xFFFFFFFF))
            else:
                client.say(request, payload, [opened[kind] for kind in kinds], flags=flags)
            if what.startswith("ring size"):  # it is judged where it is used
                client.say(9, addresses(1))
            assert served.process.wait(DEADLINE_S) == 1, what
        finally:
            for descriptor in (*opened.values(), writer):
                os.close(descriptor)
        words = served.words()
        assert words.startswith("the file server ends: ") and words.count("\n") == 1, words


@pytest.mark.parametrize("cut", [1, 11, 12, 13, 19])
def test_a_message_that_is_cut(our_place: Place, cut: int) -> None:
    message = struct.pack("<III", 8, 1, 8) + state(1, 64)
    with our_place.serve() as served, FuseClient(served.socket) as client:
        client.socket.sendall(message[:cut])
        client.socket.shutdown(socket.SHUT_WR)
        assert served.process.wait(DEADLINE_S) == 1
        assert served.words() == "the file server ends: a message without its end\n"


def test_a_message_that_comes_in_parts(our_place: Place) -> None:
    with our_place.serve() as served, FuseClient(served.socket, start=False) as client:
        message = struct.pack("<III", 1, 1, 0)
        for at in range(len(message)):
            client.socket.sendall(message[at : at + 1])
        assert client._exactly(12)[:4] == message[:4]
        assert served.process.poll() is None


def test_more_descriptors_than_a_message_may_have(our_place: Place) -> None:
    with our_place.serve() as served, FuseClient(served.socket) as client:
        event = os.eventfd(0)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [event] * 100))
        client.socket.sendmsg([struct.pack("<III", 3, 1, 0)], [rights])
        os.close(event)
        assert served.process.wait(DEADLINE_S) == 1


def test_descriptors_that_nobody_asked_for_are_closed(our_place: Place) -> None:
    with our_place.client() as (served, client):
        before = len(served.descriptors())
        for _ in range(300):
            client.say(3, b"", client.calls)
            client.say(14, struct.pack("<Q", 0), client.calls)
            client.ask(12, struct.pack("<Q", 1), [client.kicks[1], client.kicks[0]])
            client.ask(13, struct.pack("<Q", 1), [client.calls[1]])
        assert len(served.descriptors()) == before
        client.listing(1)


def test_another_size_for_a_queue_that_is_in_use(our_place: Place) -> None:
    """It would be looked for beyond the memory that it has."""
    with our_place.client() as (served, client):
        client.say(8, state(1, 32768))
        assert served.process.wait(DEADLINE_S) == 1
        assert served.words() == "the file server ends: another size for a queue that is in use\n"


def test_the_end_of_qemu_is_the_end(our_place: Place) -> None:
    with our_place.serve() as served:
        with FuseClient(served.socket) as client:
            client.init()
        assert served.process.wait(DEADLINE_S) == 0
        assert served.words() == ""
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(str(served.socket))


def test_memory_that_is_given_again(our_place: Place) -> None:
    """As for a machine that gets more while it runs: the queues stay where they are."""
    our_place.write("share/file", "file\n")
    with our_place.client() as (served, client):
        for _ in range(20):
            client.ask(5, regions(1), [client._file])
            assert client.look_up(1, "file")
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(0)
        assert memory(served) < MEMORY_MOST_KIB
        mapped = Path(f"/proc/{served.process.pid}/maps").read_text().count("memfd:guest")
        assert mapped <= 2


def test_both_queues_at_once_and_none_waits_for_the_other(our_place: Place) -> None:
    our_place.write("share/file", "file\n")
    with our_place.client() as (served, client):
        client.offer([(SIZE, 48, 0, 0)], ring=0)
        served.wait_for_words("a queue was stopped")
        for _ in range(100):
            assert client.look_up(1, "file")
        served.assert_idle()
