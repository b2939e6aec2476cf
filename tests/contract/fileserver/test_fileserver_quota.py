"""What the guest adds to the host's disk has an end: the limit of the mount, and what the host keeps free."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuse_client import FuseClient, text
from server_process import Place, Served, error_of
from test_fileserver_migration import going_on, save

from vmm.fileserver import fuse, quota

MIB = 1 << 20
LIMIT = 8 * MIB


@pytest.fixture
def served(place: Place) -> Iterator[tuple[Served, FuseClient]]:
    with place.client(limit=LIMIT) as (served, client):
        yield served, client
        assert served.words() == ""


@pytest.fixture
def client(served: tuple[Served, FuseClient]) -> FuseClient:
    return served[1]


def fill(client: FuseClient, node: int, handle: int, most: int = 2 * LIMIT) -> int:
    """Write until it is refused; returns how many bytes there were."""
    done = 0
    while done < most and not (error := error_of(client.write, node, handle, bytes(MIB), done)):
        done += MIB
    assert done == most or error == "ENOSPC"
    return done


def remove(client: FuseClient, name: str) -> None:
    client.send(fuse.UNLINK, 1, text(name))


def cut(client: FuseClient, node: int) -> None:
    client.send(fuse.SETATTR, node, fuse.SETATTR_IN.pack(fuse.SET_SIZE, *[0] * 15))


def allocate(client: FuseClient, node: int, handle: int, offset: int, length: int, mode: int = 0) -> None:
    client.send(fuse.FALLOCATE, node, fuse.FALLOCATE_IN.pack(handle, offset, length, mode, 0))


def test_the_limit_ends_writing_and_what_is_removed_is_given_back(served: tuple[Served, FuseClient]) -> None:
    room, client = served
    node, handle = client.create(1, "big")
    assert LIMIT - 2 * MIB <= fill(client, node, handle) <= LIMIT
    assert room.next_word() == "limit"
    client.release(node, handle)
    remove(client, "big")
    node, handle = client.create(1, "other")
    assert fill(client, node, handle) >= LIMIT - 2 * MIB
    assert [room.next_word(), room.next_word()] == ["room", "limit"]


def test_what_is_open_without_a_name_counts_until_it_is_closed(client: FuseClient) -> None:
    node, handle = client.create(1, "big")
    assert fill(client, node, handle)
    remove(client, "big")
    other, second = client.create(1, "other")
    assert fill(client, other, second) <= MIB
    client.release(node, handle)
    assert fill(client, other, second) >= LIMIT - 2 * MIB


def test_cutting_gives_back_and_what_the_user_had_does_not(place: Place, client: FuseClient) -> None:
    place.write("share/users", "x" * LIMIT)
    remove(client, "users")
    node, handle = client.create(1, "big")
    assert fill(client, node, handle) <= LIMIT
    cut(client, node)
    assert fill(client, node, handle) >= LIMIT - 2 * MIB


def test_names_count(client: FuseClient) -> None:
    made = 0
    while not (error := error_of(client.make_directory, 1, f"d{made}")):
        made += 1
        assert made <= LIMIT // quota.NAME_BYTES
    assert error == "ENOSPC"
    client.send(fuse.RMDIR, 1, text("d0"))
    client.make_directory(1, "again")


def test_allocating_is_counted_and_punching_frees(client: FuseClient) -> None:
    node, handle = client.create(1, "big")
    assert error_of(allocate, client, node, handle, 0, 4 * LIMIT) == "ENOSPC"
    allocate(client, node, handle, 0, LIMIT // 2)
    assert error_of(allocate, client, node, handle, LIMIT // 2, LIMIT) == "ENOSPC"
    allocate(client, node, handle, 0, LIMIT // 2, mode=3)
    assert fill(client, node, handle) >= LIMIT - 2 * MIB


def test_a_server_that_goes_on_goes_on_counting(place: Place) -> None:
    with place.client(limit=LIMIT) as (_, client):
        node, handle = client.create(1, "big")
        written = fill(client, node, handle)
        state = save(client)
    with going_on(place, state, limit=LIMIT) as client:
        assert written > 0
        assert fill(client, node, handle) <= MIB


@pytest.mark.parametrize("what", ["directories", "long links", "cut files with attributes"])
def test_nothing_is_given_back_that_was_not_counted(place: Place, client: FuseClient, what: str) -> None:
    """Else whoever makes and removes such things has all of the disk."""
    user = place.write("share/user", "")
    if what == "cut files with attributes":
        try:
            for number in range(12):
                os.setxattr(user, f"user.{number}", bytes(200))
        except OSError:
            pytest.skip("this file system has no attributes of users")
    node, handle = client.create(1, "big")
    fill(client, node, handle)
    allocate(client, node, handle, 0, 1 << 16, mode=3)  # room for a name
    for _ in range(600):
        if what == "directories":
            client.make_directory(1, "d")
            client.send(fuse.RMDIR, 1, text("d"))
        elif what == "long links":
            client.send(fuse.SYMLINK, 1, text("l") + text("x" * 200))
            remove(client, "l")
        else:
            opened = client.look_up(1, "user")
            client.release(opened, client.open(opened, os.O_WRONLY | os.O_TRUNC)[0])
    more, other = client.create(1, "more")
    assert fill(client, more, other) <= MIB


SMALL = """
import os, subprocess, sys
from vmm.fileserver.quota import KEPT_SHARE, Quota
directory = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40M,nr_inodes=2000", "tmpfs", directory], check=True)
root = os.open(directory, os.O_RDONLY)
device, said = os.fstat(root).st_dev, []
quota = Quota(tell=said.append)
quota.begin(root)
free = os.fstatvfs(root)
def until_full(work):
    try:
        while True:
            work()
    except OSError as error:
        return error.strerror
with open(directory + "/big", "wb", buffering=0) as file:
    def write():
        quota.take(file.fileno(), device, 1 << 16)
        file.write(bytes(1 << 16))
    full = until_full(write)
now = os.fstatvfs(root)
kept = free.f_bavail * free.f_frsize // KEPT_SHARE
assert full == "No space left on device" and kept <= now.f_bavail * now.f_frsize < kept + (1 << 20), now
os.unlink(directory + "/big")
with open(directory + "/sparse", "wb", buffering=0) as file:
    count = 0
    def write_little():
        global count
        quota.take(file.fileno(), device, 1)
        os.pwrite(file.fileno(), b"x", 2 * 4096 * count)
        count += 1
    full = until_full(write_little)
now = os.fstatvfs(root)
assert full == "No space left on device" and kept <= now.f_bavail * now.f_frsize, now
following = Quota()
following.begin(root)
following.take(root, device, 1 << 16)  # by itself it would keep a tenth of what is left
following.keep(device, *quota.kept)
assert until_full(lambda: following.take(root, device, 1 << 16)) == "No space left on device"
os.unlink(directory + "/sparse")
def make():
    quota.take(root, device, names=1)
    os.mkdir(f"{directory}/{len(os.listdir(directory))}")
full = until_full(make)
now = os.fstatvfs(root)
assert full == "No space left on device" and free.f_favail // KEPT_SHARE <= now.f_favail < 300, now
assert said == ["disk", "room", "disk", "room", "files"], said
print("held")
"""


def test_the_host_keeps_a_share_of_what_was_free(tmp_path: Path) -> None:
    """On a real file system of its own, bytes and inodes."""
    inside = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", SMALL, str(tmp_path)]
    root = str(Path(__file__).parents[3])
    if subprocess.run([*inside[:4], "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces on this host")
    done = subprocess.run(inside, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root})
    assert done.stdout == "held\n", done.stderr
