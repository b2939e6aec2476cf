"""A server goes on where another one has stopped: what the guest knows by number is the same file, or is not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuse_client import REQUEST, FuseClient, FuseError
from server_process import Place, error_of

from engine.workspaces.hiding import all_but, hidden_rules
from vmm.fileserver import fuse

SAVE, LOAD = 0, 1
SET_STATE, CHECK_STATE = 42, 43
WRITE_LOCK = 1


def save(client: FuseClient) -> bytes:
    """As QEMU does when the guest stands still."""
    for ring in (0, 1):
        client.stop_ring(ring)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        assert client.ask(SET_STATE, struct.pack("<II", SAVE, 0), [writer]) == struct.pack("<Q", 1 << 8)
        os.close(writer)
        data = pipe.read()
    assert client.ask(CHECK_STATE) == bytes(8)
    return data


def load(client: FuseClient, data: bytes) -> int:
    reader, writer = os.pipe()
    assert client.ask(SET_STATE, struct.pack("<II", LOAD, 0), [reader]) == struct.pack("<Q", 1 << 8)
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(data)
    return int(struct.unpack("<Q", client.ask(CHECK_STATE))[0])


@contextlib.contextmanager
def going_on(place: Place, data: bytes, **options: Any) -> Iterator[FuseClient]:
    """A guest that never says INIT: it has said that to the server before."""
    with place.serve(**options) as served, FuseClient(served.socket) as client:
        assert load(client, data) == 0
        yield client


def test_files_stay_open_and_names_stay_known(place: Place) -> None:
    place.write("share/deep/down/file", "first\n")
    with place.client() as (_, client):
        directory = client.walk("deep/down")
        node = client.look_up(directory, "file")
        reading, _ = client.open(node, os.O_RDONLY)
        appending, _ = client.open(node, os.O_WRONLY | os.O_APPEND)
        listing = fuse.OPEN_OUT.unpack(client.send(fuse.OPENDIR, directory, fuse.OPEN_IN.pack(0, 0)))[0]
        data = save(client)
    with going_on(place, data) as client:
        assert client.read(node, reading) == b"first\n"
        client.write(node, appending, b"second\n")
        assert (place.share / "deep/down/file").read_text() == "first\nsecond\n"
        rest = client.send(fuse.READDIR, directory, fuse.READ_IN.pack(listing, 2, 4096, 0, 0, 0, 0))
        assert b"file" in rest, "the rest of a listing that was begun before"
        assert error_of(client.read, node, 99) == "EBADF"
        other, _ = client.create(directory, "new")
        assert other > node, "no number is given twice"
        assert client.look_up(directory, "file") == node


def test_what_is_another_file_by_now_is_not_there(our_place: Place) -> None:
    file = our_place.write("share/file", "ours\n")
    gone = our_place.write("share/gone", "gone\n")
    with our_place.client() as (_, client):
        nodes = [client.look_up(1, name) for name in ("file", "gone")]
        handles = [client.open(node, os.O_RDWR)[0] for node in nodes]
        data = save(client)
    held = file.open()  # its number stays its own
    file.unlink()
    our_place.write("share/file", "another\n")
    gone.unlink()
    with held, going_on(our_place, data) as client:
        for node, handle in zip(nodes, handles, strict=True):
            assert error_of(client.read, node, handle) == "ESTALE"
        new = client.look_up(1, "file")
        assert client.read(new, client.open(new, os.O_RDONLY)[0]) == b"another\n"


def test_a_file_with_the_number_of_the_removed_one_is_another(our_place: Place) -> None:
    """ext4 gives the number of a removed file to the next one."""
    file = our_place.write("share/file", "ours\n")
    with our_place.client() as (_, client):
        node = client.look_up(1, "file")
        handle, _ = client.open(node, os.O_RDWR)
        data = save(client)
    number = file.stat().st_ino
    file.unlink()
    for _ in range(1000):
        if our_place.write("share/file", "another\n").stat().st_ino == number:
            break
        file.rename(our_place.share / f"not-{_}")
    else:
        pytest.skip("this file system gives no number twice")
    with going_on(our_place, data) as client:
        assert error_of(client.read, node, handle) == "EBADF"
        new = client.look_up(1, "file")
        assert client.read(new, client.open(new, os.O_RDONLY)[0]) == b"another\n"


def test_places_to_mount_on_keep_their_numbers(our_place: Place) -> None:
    """What the guest has mounted there would go away with the number, as soon as its kernel looks again."""
    our_place.write("share/packages/web/package.json", "{}\n")
    points = ("node_modules", "packages/web/node_modules")
    with our_place.client(mount_points=points) as (_, client):
        numbers = [client.walk(path) for path in points]
        data = save(client)
    with going_on(our_place, data, mount_points=points) as client:
        assert [client.walk(path) for path in points] == numbers
        assert all(client.attributes(number) for number in numbers)
    with going_on(our_place, data) as client:  # a state makes no such place
        assert error_of(client.attributes, numbers[0]) == "ESTALE"


def test_the_one_file_of_a_share_is_followed_further(our_place: Place) -> None:
    file = our_place.write("share/file", "first\n")
    options: dict[str, Any] = {"file": "file", "hidden": [*hidden_rules(all_but("file"))]}
    with our_place.client(**options) as (_, client):
        node = client.look_up(1, "file")
        handle, _ = client.open(node, os.O_RDONLY)
        data = save(client)
    with going_on(our_place, data, **options) as client:
        assert client.read(node, handle) == b"first\n"
        client.release(node, handle)
        _replace(our_place, file, "second\n")
        assert _read_anew(client, node) == b"second\n"
    _replace(our_place, file, "third\n")
    with going_on(our_place, data, **options) as client:
        assert error_of(client.read, node, handle) == "EBADF", "what was open is another file"
        assert _read_anew(client, node) == b"third\n"
    file.unlink()
    file.symlink_to("/etc/passwd")
    with going_on(our_place, data, **options) as client:
        assert error_of(client.open, node, os.O_RDONLY) in ("ESTALE", "ELOOP")  # by whether the number was free


def _replace(place: Place, file: Path, text: str) -> None:
    with file.open():  # its number stays its own
        place.write("share/new", text).replace(file)


def _read_anew(client: FuseClient, node: int) -> bytes:
    """As a kernel opens it: once more when it is told that its attributes are old."""
    try:
        handle, _ = client.open(node, os.O_RDONLY)
    except FuseError:
        handle, _ = client.open(node, os.O_RDONLY)
    return client.read(node, handle)


def test_locks_are_held_again(our_place: Place) -> None:
    our_place.write("share/file", "file\n")
    with our_place.client() as (_, client):
        node = client.look_up(1, "file")
        handle, _ = client.open(node, os.O_RDWR)
        for start, end, kind in ((0, 99, WRITE_LOCK), (40, 59, 2)):
            client.send(fuse.SETLK, node, fuse.LOCK_IN.pack(handle, 7, start, end, kind, 1, 0, 0))
        data = save(client)
    with going_on(our_place, data) as client:
        for start, wanted in ((0, "EAGAIN"), (39, "EAGAIN"), (40, ""), (59, ""), (60, "EAGAIN"), (99, "EAGAIN")):
            body = fuse.LOCK_IN.pack(handle, 8, start, start, WRITE_LOCK, 1, 0, 0)
            assert error_of(client.send, fuse.SETLK, node, body) == wanted, start


def test_a_state_gets_nobody_further_than_the_names_do(our_place: Place) -> None:
    """Whoever has taken QEMU over can give us any state: protected, hidden and foreign files stay what they are."""
    our_place.write("share/.env", "hidden\n")
    our_place.write("share/locked", "protected\n")
    our_place.write("share/file", "file\n")
    with our_place.client() as (_, client):
        numbers = {name: client.look_up(1, name) for name in (".env", "locked", "file")}
        handles = {name: client.open(number, os.O_RDWR)[0] for name, number in numbers.items()}
        data = save(client)
    with going_on(our_place, data, protected=("locked",), hidden=[*hidden_rules([".env"])]) as client:
        assert error_of(client.read, numbers[".env"], handles[".env"]) == "ESTALE"
        assert error_of(client.write, numbers["locked"], handles["locked"], b"x") == "EBADF"
        client.write(numbers["file"], handles["file"], b"changed\n")
    assert (our_place.share / "locked").read_text() == "protected\n"
    with going_on(our_place, data, read_only=True) as client:
        assert error_of(client.write, numbers["file"], handles["file"], b"x") in ("EBADF", "EROFS")
    state = json.loads(data)
    for name in ("..", "../outside", "/etc/passwd", ".", "", "a\0b"):
        state["nodes"] = [[9, 1, name, *state["nodes"][0][3:]]]
        with our_place.untouched(), our_place.serve() as served, FuseClient(served.socket) as client:
            load(client, json.dumps(state).encode())
            assert error_of(client.attributes, 9) in ("ESTALE", "ENODEV"), name


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"format": 2}', "[" * 100_000])
def test_what_is_no_state_is_refused(our_place: Place, text: str) -> None:
    with our_place.serve() as served, FuseClient(served.socket) as client:
        assert load(client, text.encode()) == 1


def test_who_waits_for_a_lock_is_told_before_the_guest_stands_still(our_place: Place) -> None:
    file = our_place.write("share/file", "file\n")
    with our_place.client() as (_, client), file.open("r+") as ours:
        fcntl.lockf(ours, fcntl.LOCK_EX)
        node = client.look_up(1, "file")
        handle, _ = client.open(node, os.O_RDWR)
        body = fuse.LOCK_IN.pack(handle, 7, 0, 9, WRITE_LOCK, 1, 0, 0)
        slot = client.begin(fuse.SETLKW, node, body)
        _see_all_taken(client)
        client.stop_ring(1)
        client.wait(slot)
        with pytest.raises(FuseError) as refused:
            client.answer()
        assert refused.value.name == errno.errorcode[errno.EAGAIN]


def _see_all_taken(client: FuseClient) -> None:
    """Until the server has taken what ring 1 offers: it hears of both rings in one round, and ends that before it
    answers anything else."""
    beside = REQUEST + 0x80000
    request = fuse.IN_HEADER.pack(fuse.IN_HEADER.size + 8, fuse.FORGET, 2**40, 1, 0, 0, 1, 0, 0) + fuse.FORGET_IN.pack(
        0
    )
    client.memory[beside : beside + len(request)] = request
    client.wait(client.offer([(beside, len(request), 0, 0)], ring=0), ring=0)
