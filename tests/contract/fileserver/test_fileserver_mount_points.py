"""Empty directories that the guest has to mount something on: the host has no part in them, whatever it does."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator

import pytest
from fuse_client import FuseClient, text
from server_process import Place, Served, error_of, picture

from engine.workspaces.hiding import hidden_rules
from vmm.fileserver import fuse

POINTS = ("node_modules", "packages/web/node_modules", "target")


@pytest.fixture
def project(place: Place) -> Place:
    place.write("share/node_modules/of-the-host/index.js", "host\n")
    place.write("share/packages/web/package.json", "{}\n")
    place.write("share/node_modules.txt", "beside\n")
    return place


@pytest.fixture
def served(project: Place) -> Iterator[tuple[Served, FuseClient]]:
    with project.client(mount_points=POINTS, hidden=hidden_rules(["target", "secret"])) as (served, client):
        yield served, client
        assert served.words() == ""


@pytest.fixture
def client(served: tuple[Served, FuseClient]) -> FuseClient:
    return served[1]


def seen(client: FuseClient, path: str) -> list[str]:
    return sorted(set(client.listing(client.walk(path) if path else 1)) - {".", ".."})


def test_they_are_empty_and_the_hosts_own_are_neither_seen_nor_made(project: Place, client: FuseClient) -> None:
    assert sorted(client.listing(1)) == [".", "..", "node_modules", "node_modules.txt", "packages", "target"]
    assert seen(client, "packages/web") == ["node_modules", "package.json"]
    for path in POINTS:
        node = client.walk(path)
        assert stat.S_ISDIR(client.attributes(node)[9])
        assert sorted(client.listing(node)) == [".", ".."]
        assert error_of(client.look_up, node, "of-the-host") == "ENOENT"
    assert sorted(os.listdir(project.share)) == ["node_modules", "node_modules.txt", "packages"]  # noqa: PTH208


def test_nothing_is_made_in_them_and_they_stay_where_they_are(project: Place, client: FuseClient) -> None:
    before = picture(project.share)
    beside = client.look_up(1, "node_modules.txt")
    for path in POINTS:
        above, name = client.place(path)
        node = client.walk(path)
        link = fuse.LINK_IN.pack(beside) + text("x")
        refused = {
            "create": error_of(client.create, node, "x"),
            "mkdir": error_of(client.make_directory, node, "x"),
            "link": error_of(client.send, fuse.LINK, node, link),
            "symlink": error_of(client.send, fuse.SYMLINK, node, text("x") + text("/etc")),
            "rename into": error_of(client.rename, 1, "node_modules.txt", node, "x"),
            "rename": error_of(client.rename, above, name, 1, "other"),
            "rename over": error_of(client.rename, 1, "node_modules.txt", above, name),
            "exchange": error_of(client.rename, 1, "node_modules.txt", above, name, 2),
            "rmdir": error_of(client.send, fuse.RMDIR, above, text(name)),
            "unlink": error_of(client.send, fuse.UNLINK, above, text(name)),
            "mkdir at it": error_of(client.make_directory, above, name),
            "create at it": error_of(client.create, above, name),
        }
        assert set(refused.values()) <= {"EROFS", "ENOENT", "EBUSY", "EACCES"}, (path, refused)
    # By another name of the way there the host's own directory would be in reach.
    assert error_of(client.rename, 1, "packages", 1, "others") == "EBUSY"
    assert picture(project.share) == before


def test_they_stay_whatever_the_host_does_with_its_own(project: Place, client: FuseClient) -> None:
    numbers = {path: client.walk(path) for path in POINTS}
    shutil.rmtree(project.share / "node_modules")
    (project.share / "target").symlink_to("/etc")
    (project.share / "packages/web/node_modules").write_text("a file\n")
    assert {path: client.walk(path) for path in POINTS} == numbers, "a kernel keeps a mount on what stays the same"
    assert seen(client, "") == ["node_modules", "node_modules.txt", "packages", "target"]
    assert seen(client, "packages/web/node_modules") == []
    # What is above one is the host's. A new directory in its place has a mount point of its own.
    shutil.move(project.share / "packages/web", project.share / "packages/gone")
    assert error_of(client.walk, "packages/web/node_modules") == "ENOENT"
    project.write("share/packages/web/new", "new\n")
    assert seen(client, "packages/web") == ["new", "node_modules"]
    assert client.walk("packages/web/node_modules") != numbers["packages/web/node_modules"]


def test_a_read_only_share_has_them_too(our_place: Place) -> None:
    our_place.write("share/file", "x\n")
    before = picture(our_place.share)
    with our_place.client(read_only=True, mount_points=("node_modules",)) as (_, client):
        assert seen(client, "") == ["file", "node_modules"]
        assert seen(client, "node_modules") == []
    assert picture(our_place.share) == before
