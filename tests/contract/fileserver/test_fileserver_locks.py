"""Locks of the guest and of the host's processes are the same locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from fuse_client import ANSWER, REQUEST, FuseClient
from server_process import Place, error_of

from vmm.fileserver import fuse
from vmm.fileserver.locks import TO_THE_END, WAL_BYTE

READ, WRITE, UNLOCK = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
# A process of the host that takes and gives back what it is told: `KIND START LENGTH`, kinds of lockf and flock.
HOST = """
import fcntl, sys
file = open(sys.argv[1], "r+b", buffering=0)
for line in sys.stdin:
    call, kind, start, length = line.split()
    try:
        if call == "flock":
            fcntl.flock(file, int(kind) | fcntl.LOCK_NB)
        else:
            wait = 0 if int(kind) == fcntl.LOCK_UN else fcntl.LOCK_NB
            fcntl.lockf(file, int(kind) | wait, int(length), int(start))
        print("ok", flush=True)
    except OSError as error:
        print("refused", flush=True)
"""


class Host:
    """A process of the host with the file open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdin and process.stdout
        self._in: IO[str] = process.stdin
        self._out: IO[str] = process.stdout

    def say(self, call: str, kind: int, start: int = 0, length: int = 0) -> bool:
        self._in.write(f"{call} {kind} {start} {length}\n")
        self._in.flush()
        return self._out.readline() == "ok\n"

    def lock(self, kind: int, start: int = 0, length: int = 0) -> bool:
        return self.say("lockf", kind, start, length)

    def flock(self, kind: int) -> bool:
        return self.say("flock", kind)


@contextlib.contextmanager
def host_process(file: Path) -> Iterator[Host]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOST, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Host(process)
        finally:
            process.kill()


@pytest.fixture
def file(place: Place) -> Path:
    return place.write("share/file", "0123456789" * 100)


@pytest.fixture
def host(file: Path) -> Iterator[Host]:
    with host_process(file) as host:
        yield host


@pytest.fixture
def client(place: Place, file: Path) -> Iterator[FuseClient]:
    with place.client() as (served, client):
        yield client
        assert served.words() == ""


def opened(client: FuseClient, flags: int = os.O_RDWR, name: str = "file") -> tuple[int, int]:
    node = client.look_up(1, name)
    return node, client.open(node, flags)[0]


def test_posix_locks_hold_in_both_directions(client: FuseClient, host: Host) -> None:
    node, handle = opened(client)
    assert host.lock(fcntl.LOCK_EX, 10, 10)
    ranges = ((0, 9, True), (20, TO_THE_END, True), (0, 10, False), (19, 19, False), (0, TO_THE_END, False))
    for start, end, free in ranges:
        assert (error_of(client.lock, node, handle, 1, WRITE, start, end) == "") is free, (start, end)
        assert (client.test_lock(node, handle, 1, READ, start, end)[0] == UNLOCK) is free
    assert client.test_lock(node, handle, 2, WRITE, 0, TO_THE_END)[0] != UNLOCK
    # Each range that the guest has is the guest's for the host.
    assert not host.lock(fcntl.LOCK_EX, 0, 1) and not host.lock(fcntl.LOCK_SH, 500, 1)
    assert host.lock(fcntl.LOCK_UN, 10, 10)
    client.lock(node, handle, 1, WRITE, 10, 19)
    assert not host.lock(fcntl.LOCK_EX, 10, 1)
    client.lock(node, handle, 1, UNLOCK, 12, 15)
    assert host.lock(fcntl.LOCK_EX, 12, 4)
    assert not host.lock(fcntl.LOCK_EX, 11, 1) and not host.lock(fcntl.LOCK_EX, 16, 1)
    assert host.lock(fcntl.LOCK_UN, 0, 0)
    client.lock(node, handle, 1, READ, 0, TO_THE_END)  # changed into a shared one
    assert host.lock(fcntl.LOCK_SH, 0, 0) and not host.lock(fcntl.LOCK_EX, 0, 0)
    assert error_of(client.lock, node, handle, 1, WRITE, 0, 0) == "EAGAIN"


def test_what_stands_in_the_way_is_said(client: FuseClient, host: Host) -> None:
    node, handle = opened(client)
    assert host.lock(fcntl.LOCK_EX, 10, 10)
    assert client.test_lock(node, handle, 1, WRITE, 0, TO_THE_END) == (WRITE, 10, 19)
    assert host.lock(fcntl.LOCK_UN, 10, 10) and host.lock(fcntl.LOCK_SH, 100, 0)
    assert client.test_lock(node, handle, 1, WRITE, 0, TO_THE_END) == (READ, 100, TO_THE_END)
    assert client.test_lock(node, handle, 1, READ, 0, TO_THE_END)[0] == UNLOCK


def test_owners_in_the_guest_are_apart(client: FuseClient, host: Host) -> None:
    """Also through one handle, as after a fork; one owner's handles are together."""
    node, handle = opened(client)
    _, second = opened(client)
    client.lock(node, handle, 1, WRITE, 0, 9)
    assert error_of(client.lock, node, handle, 2, READ, 5, 5) == "EAGAIN"
    assert error_of(client.lock, node, second, 2, READ, 5, 5) == "EAGAIN"
    client.lock(node, second, 1, WRITE, 0, 19)
    assert not host.lock(fcntl.LOCK_SH, 15, 1)
    client.lock(node, handle, 2, WRITE, 30, 39)
    client.flush(node, second, 1)  # closing any handle gives back all of its owner
    assert host.lock(fcntl.LOCK_SH, 0, 20) and not host.lock(fcntl.LOCK_SH, 30, 1)
    client.flush(node, handle, 2)
    assert host.lock(fcntl.LOCK_SH, 30, 1)


def test_flock_holds_in_both_directions(client: FuseClient, host: Host) -> None:
    node, handle = opened(client)
    lock = fuse.LOCK_IN.pack(handle, 7, 0, TO_THE_END, WRITE, 1, fuse.LOCK_IS_FLOCK, 0)
    assert host.flock(fcntl.LOCK_SH)
    assert error_of(client.send, fuse.SETLK, node, lock) == "EAGAIN"
    shared = fuse.LOCK_IN.pack(handle, 7, 0, TO_THE_END, READ, 1, fuse.LOCK_IS_FLOCK, 0)
    client.send(fuse.SETLK, node, shared)
    assert not host.flock(fcntl.LOCK_EX)
    assert host.flock(fcntl.LOCK_UN)
    client.send(fuse.SETLK, node, lock)
    assert not host.flock(fcntl.LOCK_SH)
    assert host.lock(fcntl.LOCK_EX, 0, 0), "the two kinds do not know each other"
    client.flush(node, handle, 7)
    assert not host.flock(fcntl.LOCK_SH), "a flock is the handle's, not the closer's"
    client.send(fuse.RELEASE, node, fuse.RELEASE_IN.pack(handle, 0, fuse.RELEASE_FLOCK_UNLOCK, 7))
    assert host.flock(fcntl.LOCK_EX)


def offered(client: FuseClient, node: int, handle: int, owner: int, *, kind: int = WRITE, flock: bool = False) -> int:
    """A request that waits for its lock; returns the slot in which its answer will be."""
    flags = fuse.LOCK_IS_FLOCK if flock else 0
    body = fuse.LOCK_IN.pack(handle, owner, 0, TO_THE_END, kind, 1, flags, 0)
    head = fuse.IN_HEADER.pack(40 + len(body), fuse.SETLKW, 901, node, 0, 0, 1, 0, 0) + body
    at, to = REQUEST + 0x80000, ANSWER + 0x80000
    client.memory[at : at + len(head)] = head
    client.memory[to : to + 16] = bytes(16)
    # in descriptors of its own: others are written while it waits
    base = 0
    struct.pack_into("<QIHH", client.memory, base + 16 * 60, at, len(head), 1, 61)
    struct.pack_into("<QIHH", client.memory, base + 16 * 61, to, 64, 2, 0)
    return client.offer([], head=60)


def granted(client: FuseClient) -> bool:
    _, error, unique = fuse.OUT_HEADER.unpack_from(client.memory, ANSWER + 0x80000)
    return unique == 901 and not error


@pytest.mark.parametrize("flock", [False, True])
@pytest.mark.parametrize("how", ["release", "end"])
def test_a_lock_that_is_waited_for_comes_when_the_host_lets_go(
    client: FuseClient, file: Path, flock: bool, how: str
) -> None:
    """Everything else is served meanwhile."""
    node, handle = opened(client)
    with host_process(file) as host:
        assert host.flock(fcntl.LOCK_EX) if flock else host.lock(fcntl.LOCK_EX)
        slot = offered(client, node, handle, 1, flock=flock)
        for _ in range(2):
            client.ask(3)  # it has been looked at
        assert not granted(client)
        if how == "release":
            assert host.flock(fcntl.LOCK_UN) if flock else host.lock(fcntl.LOCK_UN)
            client.wait(slot)
    if how == "end":
        client.wait(slot)
    assert granted(client)
    with host_process(file) as host:
        assert not (host.flock(fcntl.LOCK_SH) if flock else host.lock(fcntl.LOCK_SH))


def test_a_lock_that_is_waited_for_comes_when_the_guest_lets_go(client: FuseClient, host: Host) -> None:
    node, handle = opened(client)
    client.lock(node, handle, 1, WRITE, 0, TO_THE_END)
    offered(client, node, handle, 2)
    for _ in range(2):
        client.ask(3)
    assert not granted(client)
    client.flush(node, handle, 1)  # waits until all that was offered is answered
    assert granted(client) and not host.lock(fcntl.LOCK_SH)


def test_while_one_waits_the_others_are_served(client: FuseClient, host: Host) -> None:
    node, handle = opened(client)
    assert host.lock(fcntl.LOCK_EX)
    offered(client, node, handle, 1)
    before = struct.unpack_from("<H", client.memory, 0x8000 + 2)[0]
    body = fuse.GETATTR_IN.pack(0, 0, 0)
    client.memory[REQUEST : REQUEST + 56] = fuse.IN_HEADER.pack(56, fuse.GETATTR, 5, 1, 0, 0, 1, 0, 0) + body
    client.offer([(REQUEST, 56, 1, 1), (ANSWER, 4096, 2, 0)])
    for _ in range(2):
        client.ask(3)
    assert struct.unpack_from("<H", client.memory, 0x8000 + 2)[0] == before + 1
    assert fuse.OUT_HEADER.unpack_from(client.memory, ANSWER)[1:] == (0, 5)
    assert host.lock(fcntl.LOCK_UN)
    client.wait(0)
    assert granted(client)


def test_the_last_handle_takes_all_locks_with_it(client: FuseClient, host: Host) -> None:
    """Read-only handles are not flushed: their release gives back what came through them."""
    node, handle = opened(client, os.O_RDONLY)
    _, writing = opened(client)
    client.lock(node, handle, 1, READ, 0, 9)
    client.lock(node, writing, 2, READ, 20, 29)
    client.release(node, handle)
    assert host.lock(fcntl.LOCK_EX, 0, 10) and not host.lock(fcntl.LOCK_EX, 20, 10)
    client.release(node, writing)
    assert host.lock(fcntl.LOCK_EX, 0, 0)
    node, handle = opened(client, os.O_RDONLY)
    assert error_of(client.lock, node, handle, 1, READ, 0, 0) == "EAGAIN"


def test_a_new_guest_has_no_locks(client: FuseClient, host: Host) -> None:
    node, handle = opened(client)
    client.lock(node, handle, 1, WRITE, 0, TO_THE_END)
    assert not host.lock(fcntl.LOCK_SH)
    client.init()
    assert host.lock(fcntl.LOCK_EX)


def test_the_end_of_the_server_gives_them_back(place: Place, file: Path, host: Host) -> None:
    with place.client() as (served, client):
        node, handle = opened(client)
        client.lock(node, handle, 1, WRITE, 0, TO_THE_END)
        assert not host.lock(fcntl.LOCK_EX)
        served.process.kill()
        served.process.wait()
        assert host.lock(fcntl.LOCK_EX)


def test_odd_locks(client: FuseClient) -> None:
    node, handle = opened(client)
    last = (1 << 64) - 1
    odd = ((9, 0, 0), (0xFFFFFFFF, 0, 0), (WRITE, 5, 4), (WRITE, 0, 1 << 63), (WRITE, last, last))
    for kind, start, end in odd:
        for operation in (fuse.SETLK, fuse.SETLKW, fuse.GETLK):
            body = fuse.LOCK_IN.pack(handle, 1, start, end, kind, 1, 0, 0)
            assert error_of(client.send, operation, node, body) == "EINVAL", (operation, kind, start, end)
    client.lock(node, handle, 99, UNLOCK, 0, TO_THE_END)


# SQLite


@pytest.fixture
def database(place: Place) -> Iterator[sqlite3.Connection]:
    path = place.share / "data.db"
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (n)")
        connection.execute("INSERT INTO t VALUES (1)")
        place.own()
        yield connection


def wal(client: FuseClient) -> tuple[int, int]:
    return opened(client, name="data.db-shm")


def test_while_the_host_has_a_database_in_wal_mode_the_guest_cannot_open_it(
    place: Place, database: sqlite3.Connection
) -> None:
    """Its index is memory that two kernels do not share: SQLite in the guest is told that the database is locked."""
    with place.client() as (_, client):
        node, handle = wal(client)
        assert client.test_lock(node, handle, 1, WRITE, WAL_BYTE, WAL_BYTE)[0] == READ
        assert error_of(client.lock, node, handle, 1, READ, WAL_BYTE, WAL_BYTE) == "EAGAIN"
        database.execute("INSERT INTO t VALUES (2)")
        database.close()
        if not (place.share / "data.db-shm").exists():
            node, handle = client.create(1, "data.db-shm")
        client.lock(node, handle, 1, READ, WAL_BYTE, WAL_BYTE)


def test_while_the_guest_has_it_the_host_cannot_open_it(place: Place, database: sqlite3.Connection) -> None:
    """All connections of the guest together; the last one gives it back."""
    database.close()
    path = place.share / "data.db"
    with place.client() as (_, client):
        node, handle = client.create(1, "data.db-shm")
        client.write(node, handle, bytes(32768))
        second = client.open(node, os.O_RDWR)[0]
        # What SQLite does at its first connection: alone, then shared.
        client.lock(node, handle, 1, WRITE, WAL_BYTE, WAL_BYTE)
        assert error_of(client.lock, node, second, 2, READ, WAL_BYTE, WAL_BYTE) == "EAGAIN"
        client.lock(node, handle, 1, READ, WAL_BYTE, WAL_BYTE)
        client.lock(node, second, 2, READ, WAL_BYTE, WAL_BYTE)
        assert client.test_lock(node, second, 3, WRITE, WAL_BYTE, WAL_BYTE) == (READ, WAL_BYTE, WAL_BYTE)
        assert client.test_lock(node, second, 3, READ, WAL_BYTE, WAL_BYTE)[0] == UNLOCK
        assert error_of(client.lock, node, second, 3, WRITE, WAL_BYTE, WAL_BYTE) == "EAGAIN"
        for owner in (1, 2):
            assert not host_may_open(path)
            client.lock(node, handle if owner == 1 else second, owner, UNLOCK, WAL_BYTE, WAL_BYTE)
        with contextlib.closing(sqlite3.connect(path, timeout=0)) as late:
            assert late.execute("SELECT * FROM t").fetchall() == [(1,)]
        # The same when a connection ends by closing its file, and when all of them end.
        for end in ("flush", "release"):
            again = client.open(node, os.O_RDWR)[0]
            if not (place.share / "data.db-shm").exists():
                node, again = client.create(1, "data.db-shm")
            client.lock(node, again, 5, READ, WAL_BYTE, WAL_BYTE)
            assert not host_may_open(path)
            client.flush(node, again, 5)
            if end == "release":
                client.release(node, again)
            with contextlib.closing(sqlite3.connect(path, timeout=0)) as late:
                assert late.execute("SELECT * FROM t").fetchall() == [(1,)]


def host_may_open(path: Path) -> bool:
    """The lock without which SQLite opens no database in WAL mode."""
    with path.with_name(f"{path.name}-shm").open("r+b") as index:
        try:
            fcntl.lockf(index, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, WAL_BYTE)
        except OSError:
            return False
        return True


def test_sqlite_itself_waits_and_then_says_so(our_place: Place) -> None:
    """For ten seconds: it takes that lock for one that is held for a moment only."""
    path = our_place.share / "data.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (n)")
    with our_place.client() as (_, client):
        node, handle = client.create(1, "data.db-shm")
        client.lock(node, handle, 1, READ, WAL_BYTE, WAL_BYTE)
        with contextlib.closing(sqlite3.connect(path, timeout=0)) as late:
            with pytest.raises(sqlite3.OperationalError, match=r"locking protocol|locked"):
                late.execute("SELECT * FROM t")
        client.flush(node, handle, 1)
        with contextlib.closing(sqlite3.connect(path, timeout=0)) as late:
            assert late.execute("SELECT * FROM t").fetchall() == []


def test_other_bytes_of_the_index_are_ordinary_locks(place: Place, database: sqlite3.Connection) -> None:
    with place.client() as (_, client):
        node, handle = wal(client)
        client.lock(node, handle, 1, READ, 123, 123)
        client.lock(node, handle, 2, READ, 123, 123)
        assert error_of(client.lock, node, handle, 1, WRITE, 123, 123) == "EAGAIN"


def test_rollback_mode_needs_no_rule(place: Place) -> None:
    """SQLite's own bytes, from both sides."""
    path = place.share / "data.db"
    pending, shared = 0x40000000, 0x40000002
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (n)")
        place.own()
        with place.client() as (_, client):
            node, handle = opened(client, name="data.db")
            connection.execute("BEGIN EXCLUSIVE")
            assert error_of(client.lock, node, handle, 1, READ, shared, shared + 509) == "EAGAIN"
            connection.execute("ROLLBACK")
            client.lock(node, handle, 1, READ, shared, shared + 509)
            connection.execute("SELECT * FROM t")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                connection.execute("BEGIN EXCLUSIVE")
            client.lock(node, handle, 1, WRITE, pending, pending)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                connection.execute("SELECT * FROM t")
            client.flush(node, handle, 1)
            connection.execute("BEGIN EXCLUSIVE")


def test_a_file_that_nobody_may_open_for_writing_any_more_is_locked(place: Place) -> None:
    """Lock files are often made with mode 0444."""
    with place.client() as (_, client):
        node, handle = client.create(1, "lock", mode=0o444)
        body = fuse.LOCK_IN.pack(handle, 7, 0, 0x7FFFFFFFFFFFFFFF, WRITE, 1, fuse.LOCK_IS_FLOCK, 0)
        client.send(fuse.SETLK, node, body)
        with (place.share / "lock").open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        client.release(node, handle)
        with (place.share / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        node, handle = client.create(1, "other", mode=0o444)
        client.lock(node, handle, 1, WRITE, 0, 9)


def test_who_locked_to_read_may_lock_to_write_by_another_handle(client: FuseClient) -> None:
    node, reading = opened(client, os.O_RDONLY)
    _, writing = opened(client)
    client.lock(node, reading, 1, READ, 0, 9)
    client.lock(node, writing, 1, WRITE, 20, 29)
