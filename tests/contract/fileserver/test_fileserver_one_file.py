"""A share for one file: the guest has whatever file the host has put at that name, and nothing beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fuse_client import FuseClient, FuseError, text
from server_process import Place, Served, error_of, picture

from engine.workspaces.hiding import all_but, hidden_rules
from vmm.fileserver import fuse

NAME = "app [1]!.toml"


@pytest.fixture
def project(place: Place) -> Place:
    place.write(f"share/{NAME}", "first\n")
    for name in ("app 1!.toml", "other", "deep/file", f"deep/{NAME}", f"{NAME}.bak"):
        place.write(f"share/{name}", "SECRET\n")
    return place


@pytest.fixture
def served(project: Place) -> Iterator[tuple[Served, FuseClient]]:
    with project.client(file=NAME, hidden=hidden_rules(all_but(NAME))) as (served, client):
        yield served, client
        assert served.words() == ""


@pytest.fixture
def client(served: tuple[Served, FuseClient]) -> FuseClient:
    return served[1]


def read(client: FuseClient, node: int) -> str:
    """As a kernel does it for one who opens what is mounted: by the number alone, and once more when told to."""
    try:
        handle, _ = client.open(node, os.O_RDONLY)
    except FuseError as error:
        assert error.name == "ESTALE"
        handle, _ = client.open(node, os.O_RDONLY)
    try:
        return client.read(node, handle).decode()
    finally:
        client.release(node, handle)


def test_nothing_else_is_there(project: Place, client: FuseClient) -> None:
    assert sorted(client.listing(1)) == [".", "..", NAME]
    for name in ("other", "deep", "app 1!.toml", f"{NAME}.bak"):
        assert error_of(client.look_up, 1, name) == "ENOENT"


def test_what_the_host_puts_in_its_place_is_seen_by_the_number_that_the_guest_has(
    project: Place, client: FuseClient
) -> None:
    node = client.look_up(1, NAME)
    assert read(client, node) == "first\n"
    for text_now in ("second, and longer\n", "3\n"):
        project.write("share/saved~", text_now)
        (project.share / "saved~").replace(project.share / NAME)
        assert client.attributes(node)[1] == len(text_now)
        assert read(client, node) == text_now
        assert client.look_up(1, NAME) == node
    (project.share / NAME).unlink()
    assert error_of(client.attributes, node) == "ESTALE"
    project.write(f"share/{NAME}", "again\n")
    assert read(client, node) == "again\n"


def test_who_has_the_old_one_open_reads_that_to_its_end(project: Place, client: FuseClient) -> None:
    node = client.look_up(1, NAME)
    old, _ = client.open(node, os.O_RDWR)
    project.write("share/saved~", "new\n")
    (project.share / "saved~").replace(project.share / NAME)
    assert client.read(node, old) == b"first\n"
    assert read(client, node) == "new\n"
    client.write(node, old, b"late\n")
    assert (project.share / NAME).read_text() == "new\n", "what is written to the old one is gone with it"
    client.release(node, old)
    assert read(client, node) == "new\n"


def test_a_link_that_the_host_puts_there_is_not_followed(project: Place, client: FuseClient) -> None:
    node = client.look_up(1, NAME)
    (project.share / NAME).unlink()
    (project.share / NAME).symlink_to("other")
    assert error_of(client.send, fuse.OPEN, node, fuse.OPEN_IN.pack(os.O_RDONLY, 0)) == "ESTALE"
    assert error_of(client.attributes, node) == "ESTALE"


def test_the_guest_writes_it_and_makes_removes_and_renames_nothing(project: Place, client: FuseClient) -> None:
    before = picture(project.share)
    node = client.look_up(1, NAME)
    refused = {
        "unlink": error_of(client.send, fuse.UNLINK, 1, text(NAME)),
        "rename": error_of(client.rename, 1, NAME, 1, "x"),
        "exchange": error_of(client.rename, 1, NAME, 1, "other", 2),
        "over": error_of(client.rename, 1, "other", 1, NAME),
        "create": error_of(client.create, 1, "x"),
        "create at it": error_of(client.create, 1, NAME),
        "mkdir": error_of(client.make_directory, 1, "x"),
        "symlink": error_of(client.send, fuse.SYMLINK, 1, text("x") + text("/etc")),
        "link": error_of(client.send, fuse.LINK, 1, fuse.LINK_IN.pack(node) + text("x")),
    }
    assert set(refused.values()) <= {"EBUSY", "EACCES", "ENOENT"}, refused
    assert picture(project.share) == before
    handle, _ = client.open(node, os.O_WRONLY)
    client.write(node, handle, b"guest\n")
    assert (project.share / NAME).read_text() == "guest\n"


def test_a_read_only_one_cannot_be_written(our_place: Place) -> None:
    our_place.write(f"share/{NAME}", "first\n")
    with our_place.client(read_only=True, file=NAME, hidden=hidden_rules(all_but(NAME))) as (_, client):
        node = client.look_up(1, NAME)
        assert error_of(client.open, node, os.O_WRONLY) == "EROFS"
        assert read(client, node) == "first\n"
