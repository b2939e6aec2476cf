"""A file server is killed: its stand-in answers what the guest had asked, and what it asks after that."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fuse_client import ANSWER, REQUEST, TABLE, USED, FuseClient, FuseError
from server_process import Place, Served, error_of, wait_until

from vmm.fileserver import ANSWERED, fuse
from vmm.fileserver.guest_memory import GuestMemory
from vmm.fileserver.locks import TO_THE_END
from vmm.fileserver.ring import RECORD, DescriptorChain, Ring
from vmm.fileserver.stand_in import StandIn
from vmm.fileserver.vhost import Heir, VhostMessage

NEXT, WRITABLE = 1, 2


def stand_in(served: Served) -> int:
    (child,) = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
    return int(child)


def kill(served: Served, client: FuseClient) -> None:
    served.process.kill()
    served.process.wait()
    client.server_lives = False


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def stopped(our_place: Place) -> Iterator[tuple[Served, FuseClient]]:
    """A server that was asked this and that, and reads no more."""
    our_place.write("share/marker", "here\n")
    with our_place.client() as (served, client):
        for _ in range(100):  # more than the queue has entries
            client.listing(1)
        served.process.send_signal(signal.SIGSTOP)
        yield served, client


def test_what_was_asked_and_not_taken_has_an_error(stopped: tuple[Served, FuseClient]) -> None:
    served, client = stopped
    slot = client.begin(fuse.GETATTR, 1, fuse.GETATTR_IN.pack(0, 0, 0))
    kill(served, client)
    client.wait(slot)
    with pytest.raises(FuseError, match="ENOTCONN"):
        client.answer()
    assert served.next_word() == ANSWERED
    assert error_of(client.look_up, 1, "marker") == "ENOTCONN"  # and so has what is asked later
    assert error_of(client.init) == "ENOTCONN"


def test_what_was_taken_and_waits_has_an_error(our_place: Place) -> None:
    """A lock that somebody else holds; a hundred other requests have been answered since it was asked for."""
    marker = our_place.write("share/marker", "here\n")
    held = os.open(marker, os.O_RDWR)
    os.lockf(held, os.F_LOCK, 0)
    with our_place.client() as (served, client):
        node = client.look_up(1, "marker")
        handle, _ = client.open(node, os.O_RDWR)
        waiting = fuse.LOCK_IN.pack(handle, 7, 0, TO_THE_END, fcntl.F_WRLCK, 9, 0, 0)
        header = fuse.IN_HEADER.pack(fuse.IN_HEADER.size + len(waiting), fuse.SETLKW, 99, node, 0, 0, 9, 0, 0)
        request, answer, head = REQUEST + 0x80000, ANSWER + 0x80000, 60  # in descriptors of its own
        client.memory[request : request + len(header + waiting)] = header + waiting
        struct.pack_into("<QIHH", client.memory, TABLE + 16 * head, request, len(header + waiting), NEXT, head + 1)
        struct.pack_into("<QIHH", client.memory, TABLE + 16 * (head + 1), answer, 64, WRITABLE, 0)
        client.offer([], head=head)
        client.unanswered[1] = 1
        for _ in range(100):
            client.attributes(node)
        kill(served, client)
        assert served.next_word() == ANSWERED
        assert fuse.OUT_HEADER.unpack_from(client.memory, answer) == (16, -errno.ENOTCONN, 99)
        entries = [struct.unpack_from("<II", client.memory, USED + 4 + 8 * at)[0] for at in range(64)]
        assert entries.count(head) == 1  # answered once, and nothing else was answered twice
    os.close(held)


def test_it_ends_with_the_server_that_ends_in_good_order(our_place: Place) -> None:
    with our_place.client() as (served, _):
        other = stand_in(served)
    served.process.wait()
    wait_until(lambda: is_gone(other), "the stand-in lives")


def test_it_ends_when_nobody_hears_of_it(stopped: tuple[Served, FuseClient]) -> None:
    served, client = stopped
    other = stand_in(served)
    kill(served, client)
    assert error_of(client.init) == "ENOTCONN"
    assert not is_gone(other)
    served.report.close()
    wait_until(lambda: is_gone(other), "the stand-in lives")


def test_a_server_does_without_a_stand_in(our_place: Place) -> None:
    our_place.write("share/marker", "here\n")
    with our_place.client() as (served, client):
        other = stand_in(served)
        os.kill(other, signal.SIGKILL)
        wait_until(lambda: is_gone(other), "the stand-in lives")
        client.restart()
        client.look_up(1, "marker")


def test_it_has_no_file_and_may_do_nothing(place: Place) -> None:
    with place.client() as (served, _):
        other = Path(f"/proc/{stand_in(served)}")
        wait_until(lambda: "Seccomp:\t2" in (other / "status").read_text(), "nothing filters its system calls")
        kinds = {"/dev/null", "pipe", "socket", "anon_inode"}
        wait_until(lambda: kinds_in(other / "fd") == kinds, "it has other files, or has not heard of the queues")


def kinds_in(directory: Path) -> set[str]:
    """Of the descriptors of a process, but for its standard error."""
    opened = set()
    for entry in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            opened.add(str(entry.readlink()))
    return {name.partition(":")[0] for name in opened if "deleted" not in name}


ENTRIES = 8


@pytest.fixture
def queue() -> Iterator[tuple[FuseClient, Ring, Ring, memoryview]]:
    """A driver, its ring in a server, the ring in a stand-in, and the server's record."""
    memory, client = os.memfd_create("guest"), FuseClient.__new__(FuseClient)
    os.ftruncate(memory, 1 << 16)
    client.memory = mmap.mmap(memory, 1 << 16)
    record = memoryview(bytearray(RECORD))
    rings = Ring(record), Ring()
    for ring in rings:
        ring.size, ring.enabled = ENTRIES, True
        ring.place(GuestMemory([(0, 1 << 16, 0, 0, os.dup(memory))]), 0, 0x1000, 0x2000)
    os.close(memory)
    for head in range(ENTRIES):
        struct.pack_into("<QIHH", client.memory, 16 * head, 0x3000 + head, 1, 0, 0)
    yield client, *rings, record


def offer(client: FuseClient, *heads: int) -> None:
    struct.pack_into(f"<HH{len(heads)}H", client.memory, 0x1000, 0, len(heads), *heads)


def heads(chains: list[DescriptorChain]) -> list[int]:
    return [chain.head for chain in chains]


def test_whatever_was_just_done_each_is_answered_once(queue: tuple[FuseClient, Ring, Ring, memoryview]) -> None:
    """The server is killed before each line of what takes a request and answers it."""
    client, server, heir, record = queue
    offer(client, 3, 5, 1)
    seen: list[tuple[str, list[int]]] = []

    def look(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code in (Ring.pop.__code__, Ring.push.__code__):
            if frame.f_locals["self"] is server:
                seen.append((f"{frame.f_code.co_name}:{frame.f_lineno}", sorted(ends(client, heir, record))))
            return look
        return None

    traced = sys.gettrace()
    sys.settrace(look)
    try:
        chains = [server.pop(), server.pop()]
        for chain in chains:
            assert chain is not None
            server.push(chain, 0)
        third = server.pop()
        assert third is not None
        server.push(third, 0)
    finally:
        sys.settrace(traced)
    assert [at for at, heads in seen if heads != [1, 3, 5]] == [] and len(seen) > 40
    assert answered(client) == [3, 5, 1]


def answered(client: FuseClient) -> list[int]:
    (index,) = struct.unpack_from("<H", client.memory, 0x2002)
    return [struct.unpack_from("<I", client.memory, 0x2004 + 8 * at)[0] for at in range(index)]


def ends(client: FuseClient, heir: Ring, record: memoryview) -> list[int]:
    """The heads that were answered, or would be by the stand-in, if the server ended now."""
    found = answered(client) + heads(heir.orphans(record))
    while (chain := heir.pop()) is not None:
        found.append(chain.head)
    return found


def test_a_head_that_is_used_again_at_once_is_not_forgotten(
    queue: tuple[FuseClient, Ring, Ring, memoryview],
) -> None:
    """The guest sees an answer, and the main thread takes its next request, before the worker has gone on."""
    client, server, heir, record = queue
    offer(client, 3)
    chain = server.pop()
    again: list[threading.Thread] = []

    def look(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is not Ring.push.__code__:
            return None
        if answered(client) and not again and not server._barrier.locked():
            offer(client, 3, 3)
            again.append(threading.Thread(target=server.pop))
            again[0].start()
            wait_until(lambda: server.last == 2, "the main thread takes nothing")
        if again:
            assert heads(heir.orphans(record)) == [3], frame.f_lineno
        return look

    traced = sys.gettrace()
    sys.settrace(look)
    try:
        assert chain is not None
        server.push(chain, 0)
    finally:
        sys.settrace(traced)
    again[0].join()
    assert heads(heir.orphans(record)) == [3] and answered(client) == [3]


@pytest.mark.parametrize("given_up", [False, True], ids=["killed", "it lives, and has given the stand-in up"])
def test_the_guest_is_told_of_the_last_answer_unless_the_server_lives(
    queue: tuple[FuseClient, Ring, Ring, memoryview], given_up: bool
) -> None:
    client, server, heir, record = queue
    offer(client, 3, *([5] if given_up else []))  # an answer would tell the guest, too
    chain = server.pop()
    assert chain is not None
    server.push(chain, 0)  # and was killed before it told: there is nobody whom it could have told
    call = os.eventfd(0, os.EFD_NONBLOCK)
    heir.call = call
    ours, theirs = socket.socketpair()
    reader, report = os.pipe()
    byte = memoryview(bytearray(1))
    way = Heir(ours, byte)
    other = StandIn(Heir(theirs, byte), [record, record], report)
    other._device.rings = [Ring(), heir]
    if given_up:
        way.give_up()
    ours.close()
    os.close(reader)
    other.run()
    if given_up:
        with pytest.raises(BlockingIOError):
            os.eventfd_read(call)
    else:
        assert os.eventfd_read(call) >= 1
    assert answered(client) == [3]
    theirs.close()
    os.close(report)
    os.close(call)


def test_a_stand_in_that_does_not_listen_takes_nothing_over(our_place: Place) -> None:
    our_place.write("share/marker", "here\n")
    with our_place.client() as (served, client):
        other = stand_in(served)
        os.kill(other, signal.SIGSTOP)
        sockets = f"/proc/{served.process.pid}/fd"
        before = kinds_of_sockets(sockets)
        for _ in range(5000):
            client.ask(VhostMessage.SET_VRING_ENABLE, struct.pack("<II", 1, 1))
            if kinds_of_sockets(sockets) < before:
                break
        else:
            pytest.fail("the server waits for no end with the stand-in")
        os.kill(other, signal.SIGCONT)
        wait_until(lambda: is_gone(other), "the stand-in lives")
        client.look_up(1, "marker")


def kinds_of_sockets(directory: str) -> int:
    return sum(str(entry.readlink()).startswith("socket:") for entry in Path(directory).iterdir())
