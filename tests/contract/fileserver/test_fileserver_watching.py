"""What the host changes where the guest has looked is told, once; what the guest changes itself is not."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator

import pytest
from fuse_client import FuseClient
from server_process import Place, Served, picture

from engine.workspaces.hiding import hidden_rules
from vmm.fileserver import fuse
from vmm.fileserver.filesystem import NOTHING_CHANGES
from vmm.fileserver.watching import MOST_TOLD

ANSWER_S = 20.0


class Heard:
    """The other end."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(ANSWER_S)
        self._connection = connection
        self._file = connection.makefile("rb")

    def next(self, *, answer: bool = True) -> set[str]:
        found = set(json.loads(self._file.readline()))
        if answer:
            self.answer()
        return found

    def answer(self) -> None:
        self._connection.send(b".")

    def until(self, *paths: str) -> set[str]:
        """Messages until all of these were among them."""
        found: set[str] = set()
        while not found >= set(paths):
            found |= self.next()
        return found


@pytest.fixture
def project(place: Place) -> Place:
    for name in ("file", "directory/below", "unseen/below", "secret.pem"):
        place.write(f"share/{name}", "first\n")
    return place


@pytest.fixture
def watched(project: Place) -> Iterator[tuple[Served, FuseClient, Heard]]:
    ours, theirs = socket.socketpair()
    options = {"hidden": hidden_rules(["*.pem"]), "mount_points": ("node_modules",)}
    with ours, theirs, project.client(changes=theirs, **options) as (served, client):
        theirs.close()
        yield served, client, Heard(ours)
        assert served.words() == ""


def test_changes_are_told_where_the_guest_has_looked(project: Place, watched: tuple[Served, FuseClient, Heard]) -> None:
    _, client, heard = watched
    client.walk("directory/below")
    (project.share / "unseen" / "below").write_text("second\n")
    (project.share / "directory" / "below").write_text("second\n")
    assert heard.next() == {"directory/below"}
    (project.share / "file").write_text("second\n")
    assert heard.next() == {"file"}
    os.utime(project.share / "file")
    assert heard.next() == {"file"}
    # A new file, one that takes another's name, and one that goes: the directory has other names now.
    project.write("share/directory/new", "x\n")
    assert heard.until("directory", "directory/new") <= {"directory", "directory/new"}
    (project.share / "directory/new").replace(project.share / "file")
    assert heard.until("directory", "", "file") <= {"directory", "", "file"}
    (project.share / "file").unlink()
    assert heard.until("") == {""}


def test_what_is_hidden_or_covered_is_not_told(project: Place, watched: tuple[Served, FuseClient, Heard]) -> None:
    _, client, heard = watched
    client.look_up(1, "file")
    (project.share / "secret.pem").write_text("changed\n")
    (project.share / "node_modules").mkdir()
    (project.share / "file").write_text("second\n")
    assert heard.until("file") <= {"file", ""}


def test_the_guests_own_changes_are_not_told(project: Place, watched: tuple[Served, FuseClient, Heard]) -> None:
    _, client, heard = watched
    node, handle = client.create(1, "made")
    client.write(node, handle, b"x")
    client.release(node, handle)
    client.rename(1, "made", 1, "moved")
    handle, _ = client.open(client.look_up(1, "file"), os.O_WRONLY | os.O_TRUNC)
    client.make_directory(1, "new")
    (project.share / "directory" / "below").write_text("not looked at\n")
    (project.share / "moved").write_text("host\n")
    assert heard.next() == {"moved"}


def test_a_poke_changes_nothing_on_the_host_and_is_not_told(
    project: Place, watched: tuple[Served, FuseClient, Heard]
) -> None:
    _, client, heard = watched
    nodes = [client.look_up(1, "file"), client.look_up(1, "directory"), 1]
    before = picture(project.share)
    seconds, ns = NOTHING_CHANGES
    body = fuse.SETATTR_IN.pack(fuse.SET_MTIME, 0, 0, 0, 0, 0, seconds & (1 << 64) - 1, 0, 0, ns, 0, 0, 0, 0, 0, 0)
    for node in nodes:
        answer = client.send(fuse.SETATTR, node, body)
        assert fuse.ATTRIBUTES.unpack_from(answer, fuse.ATTR_OUT.size)[4] > 0, "the host's own time"
    assert picture(project.share) == before
    (project.share / "file").write_text("second\n")
    assert heard.next() == {"file"}


def test_ten_thousand_changes_are_a_few_messages_and_one_at_a_time(
    project: Place, watched: tuple[Served, FuseClient, Heard]
) -> None:
    served, client, heard = watched
    client.walk("directory/below")
    client.walk("file")
    (project.share / "file").write_text("second\n")
    assert heard.next(answer=False) == {"file"}
    for number in range(10_000):
        (project.share / "directory" / str(number)).write_text("x")
    (project.share / "file").write_text("last\n")
    heard._connection.settimeout(0.5)
    with pytest.raises(TimeoutError):
        heard.next()
    heard = Heard(heard._connection)
    heard.answer()
    told: list[set[str]] = []
    while not told or "file" not in set().union(*told):
        told.append(heard.next())
        assert len(told[-1]) <= MOST_TOLD
    assert "directory" in set().union(*told) and len(told) < 5
    served.assert_idle()


def test_nobody_hears_any_more(project: Place, watched: tuple[Served, FuseClient, Heard]) -> None:
    served, client, heard = watched
    client.walk("file")
    heard._file.close()
    heard._connection.close()
    (project.share / "file").write_text("second\n")
    assert client.look_up(1, "directory")
    served.assert_idle()
