"""Names that do not exist for root in the guest, whatever it sends and whatever the host does with them meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fuse_client import FuseClient, text
from server_process import Place, Served, error_of, picture

from engine.workspaces.hiding import hidden_rules
from vmm.fileserver import filesystem, fuse, hiding
from vmm.fileserver.filesystem import Names, Share
from vmm.fileserver.hiding import Hiding

HIDE = (".env", "*.pem", "!public.pem", ".git/hooks", "config/*.key", "**/private/notes", "build/", "/top", "a/**/z")
SECRET = "SECRET\n"
HIDDEN = (".env", "deep/er/.env", "deep/a.pem", ".git/hooks/pre-commit", "config/one.key", "x/private/notes", "build/o",
    "top", "a/z", "a/b/c/z", ".ENV", "deep/B.PEM", "Config/Two.Key")  # fmt: skip
SEEN = ("public.pem", ".env.example", ".git/config", "config/two.txt", "x/one.key", "x/private/other", "deep/top",
    "deep/build", "z", "x/z", "other", "directory/file", "deep/er/file")  # fmt: skip


@pytest.fixture
def project(place: Place) -> Place:
    for name in HIDDEN:
        place.write(f"share/{name}", SECRET)
    for name in SEEN:
        place.write(f"share/{name}", "seen\n")
    return place


@pytest.fixture
def served(project: Place) -> Iterator[tuple[Served, FuseClient]]:
    with project.client(hidden=hidden_rules(HIDE)) as (served, client), project.untouched():
        yield served, client
        assert served.words() == ""


@pytest.fixture
def client(served: tuple[Served, FuseClient]) -> FuseClient:
    return served[1]


def seen_by(client: FuseClient, node: int = 1, above: str = "") -> list[str]:
    """All files that listings lead to."""
    found = []
    for name in sorted(set(client.listing(node)) - {".", ".."}):
        below = client.look_up(node, name)
        is_directory = client.attributes(below)[9] & 0o170000 == 0o040000
        found += seen_by(client, below, f"{above}{name}/") if is_directory else [f"{above}{name}"]
    return found


def secrets(project: Place) -> dict[str, object]:
    return {path: what for path, what in picture(project.share).items() if SECRET.encode() in what}


def set_mode(mode: int) -> bytes:
    return fuse.SETATTR_IN.pack(fuse.SET_MODE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, mode, 0, 0, 0, 0)


def made(client: FuseClient, above: int, name: str) -> dict[str, str]:
    """Every way to put something at a name."""
    other, directory = client.look_up(1, "other"), client.look_up(1, "directory")
    found = {
        "create": error_of(client.create, above, name),
        "create exclusively": error_of(client.create, above, name, os.O_RDWR | os.O_EXCL | os.O_CREAT),
        "create and truncate": error_of(client.create, above, name, os.O_WRONLY | os.O_TRUNC),
        "symlink": error_of(client.send, fuse.SYMLINK, above, text(name) + text("other")),
        "mkdir": error_of(client.make_directory, above, name),
        "mknod": error_of(client.send, fuse.MKNOD, above, fuse.MKNOD_IN.pack(0o100644, 0, 0, 0) + text(name)),
        "link": error_of(client.send, fuse.LINK, above, fuse.LINK_IN.pack(other) + text(name)),
        "link a directory": error_of(client.send, fuse.LINK, above, fuse.LINK_IN.pack(directory) + text(name)),
    }
    for flags in (0, 1, 2):
        found[f"rename {flags} over"] = error_of(client.rename, 1, "other", above, name, flags)
        found[f"rename {flags} a directory over"] = error_of(client.rename, 1, "directory", above, name, flags)
    return found


def reached(client: FuseClient, above: int, name: str) -> dict[str, str]:
    """Every way to get at what is at a name."""
    found = {
        "lookup": error_of(client.look_up, above, name),
        "unlink": error_of(client.send, fuse.UNLINK, above, text(name)),
        "rmdir": error_of(client.send, fuse.RMDIR, above, text(name)),
    }
    for flags in (0, 1):
        found[f"rename {flags} away"] = error_of(client.rename, above, name, 1, "away", flags)
    found["exchange"] = error_of(client.rename, above, name, 1, "other", 2)
    return found


def test_listings_and_lookups_show_the_rest_alone(client: FuseClient) -> None:
    assert seen_by(client) == sorted(SEEN)


@pytest.mark.parametrize("path", HIDDEN)
def test_the_guest_cannot_tell_it_from_nothing_nor_make_it(project: Place, client: FuseClient, path: str) -> None:
    before = secrets(project)
    parts = path.split("/")
    at = next(n for n in range(1, len(parts) + 1) if error_of(client.walk, "/".join(parts[:n])))
    above, name = client.place("/".join(parts[:at]))
    assert set(reached(client, above, name).values()) == {"ENOENT"}
    errors = made(client, above, name)
    assert errors.pop("link a directory") in ("EACCES", "EPERM") and set(errors.values()) == {"EACCES"}
    # Where there is none the answers are the same, so that they tell nothing.
    shutil.rmtree(project.share / "/".join(parts[:at]), ignore_errors=True)
    (project.share / "/".join(parts[:at])).unlink(missing_ok=True)
    assert set(reached(client, above, name).values()) == {"ENOENT"}
    assert set(made(client, above, name).values()) <= {"EACCES", "EPERM"}
    assert before.items() >= secrets(project).items()


@pytest.mark.parametrize("name", [".ENV", ".eNv", ".env.", ".env ", ".env\u200d", "A.PEM", "a.pem.. "])
def test_spellings_that_some_file_system_takes_for_the_same(project: Place, client: FuseClient, name: str) -> None:
    assert set(made(client, 1, name).values()) <= {"EACCES", "EPERM"}
    project.write(f"share/{name}", SECRET)
    assert error_of(client.look_up, 1, name) == "ENOENT" and name not in client.listing(1)
    assert client.create(1, "\uff0eenv")  # letters of its own, which no file system takes for others


@pytest.mark.parametrize("flags", [0, 1, 2])
@pytest.mark.parametrize(
    ("moved", "to"),
    [
        (".git", "git2"), (".git", "deep/.git"), ("config", "conf"), ("x/private", "x/public"), ("a", "aa"),
        ("a/b", "b"), ("deep", "config"), ("directory", ".git"), ("directory", "x/private"),
    ],
)  # fmt: skip
def test_a_directory_does_not_move_where_its_names_would_show(
    project: Place, client: FuseClient, moved: str, to: str, flags: int
) -> None:
    """Nor to where the guest's own would be hidden."""
    above, name = client.place(moved)
    target, new = client.place(to)
    if flags == 2 and not (project.share / to).exists():
        project.write(f"share/{to}/file", "")
    before = picture(project.share)
    assert error_of(client.rename, above, name, target, new, flags) == "EBUSY"
    assert picture(project.share).keys() == before.keys()


def test_other_directories_move_and_what_they_hide_stays_hidden(client: FuseClient) -> None:
    client.rename(1, "deep", 1, "deeper")
    assert error_of(client.walk, "deeper/a.pem") == error_of(client.walk, "deeper/er/.env") == "ENOENT"
    client.rename(1, "x", client.walk("directory"), "y")
    assert error_of(client.walk, "directory/y/private/notes") == "ENOENT"
    client.rename(client.walk("a"), "b", client.walk("a"), "c")
    assert error_of(client.walk, "a/c/c/z") == "ENOENT"
    client.rename(1, "other", 1, "other2")
    assert "deeper/er/file" in seen_by(client)


def test_a_directory_that_is_not_empty_for_the_host_stays(project: Place, client: FuseClient) -> None:
    client.send(fuse.UNLINK, client.walk("config"), text("two.txt"))
    assert error_of(client.send, fuse.RMDIR, 1, text("config")) == "ENOTEMPTY"
    assert (project.share / "config/one.key").read_text() == SECRET


def test_the_guest_lays_no_link_where_the_host_will_write(project: Place, client: FuseClient) -> None:
    """Else what the host makes at config/new.key would be seen at directory/new.key."""
    for name in (".git", "config"):
        shutil.rmtree(project.share / name)
    shutil.rmtree(project.share / "Config")
    client.send(fuse.SYMLINK, 1, text("link") + text("directory"))
    link = client.look_up(1, "link")
    for name in (".git", "config", "Config", "a"):
        assert error_of(client.send, fuse.SYMLINK, 1, text(name) + text("directory")) == "EACCES"
        assert error_of(client.send, fuse.LINK, 1, fuse.LINK_IN.pack(link) + text(name)) == "EACCES"
        assert error_of(client.rename, 1, "link", 1, name) == "EBUSY"
    client.rename(1, "link", client.walk("directory"), "link2")
    for name in (".git", "config"):
        client.make_directory(1, name)
    assert error_of(client.create, client.walk("config"), "new.key") == "EACCES"


def test_links_of_either_side_lead_to_nothing(project: Place, client: FuseClient) -> None:
    """A link is text for the guest's kernel, which looks its names up here."""
    client.send(fuse.SYMLINK, 1, text("soft") + text(".env"))
    (project.share / "theirs").symlink_to("deep/er/.env")
    for name in ("soft", "theirs"):
        link = client.look_up(1, name)
        assert error_of(client.open, link, os.O_RDONLY) == "ELOOP"
        assert error_of(client.look_up, link, ".env") in ("ENOTDIR", "ESTALE")


def in_its_place(path: Path) -> None:
    path.replace(path.parent / ".env")


def by_its_directory(path: Path) -> None:
    shutil.rmtree(path.parent.with_name("build"))
    path.parent.rename(path.parent.with_name("build"))


def into_a_hidden_directory(path: Path) -> None:
    path.replace(path.parent.parent / ".git" / "hooks" / "new")


@pytest.mark.parametrize("edit", [in_its_place, by_its_directory, into_a_hidden_directory])
def test_what_the_guest_knew_before_is_hidden_from_then_on(
    project: Place, client: FuseClient, edit: Callable[[Path], None]
) -> None:
    """Numbers, handles and listings of a file that the host renames: as an editor does that saves a secret."""
    path = project.write("share/directory/4913~", "draft\n")
    above = client.look_up(1, "directory")
    node = client.look_up(above, "4913~")
    reading, writing = client.open(node, os.O_RDONLY)[0], client.open(node, os.O_RDWR)[0]
    listing, _, _ = fuse.OPEN_OUT.unpack(client.send(fuse.OPENDIR, above, fuse.OPEN_IN.pack(0, 0)))
    assert client.read(node, reading) == b"draft\n"
    edit(path)
    hidden = next(each for each in project.share.rglob("*") if each.is_file() and each.read_bytes() == b"draft\n")
    hidden.write_text(SECRET)
    found = {
        "read": error_of(client.read, node, reading),
        "write": error_of(client.write, node, writing, b"evil"),
        "open": error_of(client.open, node, os.O_RDONLY),
        "attributes": error_of(client.attributes, node),
        "chmod": error_of(client.send, fuse.SETATTR, node, set_mode(0o777)),
        "link": error_of(client.send, fuse.LINK, 1, fuse.LINK_IN.pack(node) + text("hard")),
        "copy": error_of(
            client.send, fuse.COPY_FILE_RANGE, node, fuse.COPY_IN.pack(reading, 0, node, writing, 0, 4, 0)
        ),
        "seek": error_of(client.send, fuse.LSEEK, node, fuse.LSEEK_IN.pack(reading, 0, os.SEEK_DATA, 0)),
        "lookup": error_of(client.look_up, above, hidden.name),
    }
    assert found.pop("lookup") in ("ENOENT", "ESTALE") and set(found.values()) == {"ESTALE"}
    if edit is by_its_directory:
        assert error_of(client.send, fuse.READDIR, above, fuse.READ_IN.pack(listing, 0, 4096, 0, 0, 0, 0)) == "ESTALE"
    assert hidden.read_text() == SECRET
    # What it has open it can let go.
    client.release(node, reading)
    client.release(node, writing)
    assert error_of(client.open, node, os.O_RDONLY) == "ESTALE"


def test_an_open_directory_lists_by_the_name_that_it_has_now(project: Place, client: FuseClient) -> None:
    project.write("share/plain/one.key", SECRET)
    shutil.rmtree(project.share / "config")
    node = client.look_up(1, "plain")
    listing, _, _ = fuse.OPEN_OUT.unpack(client.send(fuse.OPENDIR, node, fuse.OPEN_IN.pack(0, 0)))
    (project.share / "plain").rename(project.share / "config")
    entries = client.send(fuse.READDIR, node, fuse.READ_IN.pack(listing, 0, 4096, 0, 0, 0, 0))
    assert b"one.key" not in entries


def test_each_handle_is_judged_by_its_own_name(project: Place, client: FuseClient) -> None:
    """Of a file with two, of which the host renames one."""
    path = project.write("share/directory/one", "draft\n")
    path.with_name("two").hardlink_to(path)
    above = client.look_up(1, "directory")
    node = client.look_up(above, "one")
    first, _ = client.open(node, os.O_RDONLY)
    assert client.look_up(above, "two") == node
    second, _ = client.open(node, os.O_RDONLY)
    path.rename(path.with_name("one.pem"))
    assert error_of(client.read, node, first) == "ESTALE"
    assert client.read(node, second) == b"draft\n"


def test_later_files_and_files_of_the_same_number(project: Place, client: FuseClient) -> None:
    node, handle = client.create(1, "mine")
    client.release(node, handle)
    (project.share / "mine").rename(project.share / "new.pem")
    assert error_of(client.attributes, node) == error_of(client.open, node, os.O_RDONLY) == "ESTALE"
    project.write("share/deep/er/later.pem", SECRET)
    assert error_of(client.walk, "deep/er/later.pem") == "ENOENT"
    assert "later.pem" not in client.listing(client.walk("deep/er"))


def test_what_an_export_of_the_mount_would_ask_for(client: FuseClient) -> None:
    """A kernel that exports by handles looks up "." and ".." by number, and knows READDIRPLUS."""
    for name in (".", "..", "./.env", "deep/../.env", "deep/er/.env"):
        assert error_of(client.look_up, 1, name) == "EINVAL"
    assert error_of(client.send, 44, 1, fuse.READ_IN.pack(0, 0, 4096, 0, 0, 0, 0)) == "ENOSYS"
    for number in range(2, 40):
        assert error_of(client.open, number, os.O_RDONLY) == "ESTALE"


def test_read_only_it_is_as_hidden(project: Place) -> None:
    with project.client(hidden=hidden_rules(HIDE), read_only=True) as (_, client):
        assert seen_by(client) == sorted(SEEN)
        assert set(reached(client, 1, ".env").values()) == {"ENOENT", "EROFS"}
        assert set(made(client, 1, ".env").values()) <= {"EROFS"}


def test_nothing_is_lost_where_nothing_is_hidden(project: Place) -> None:
    with project.client() as (_, client):
        assert set(seen_by(client)) == {*SEEN, *HIDDEN}


def test_where_files_have_second_names_only_a_listed_one_counts(
    our_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on vfat, which finds .env as ENV~1: here every file system is taken for such a one, and lists nothing."""
    our_place.write("share/seen", "")
    our_place.write("share/other", "")
    root, own = os.open(our_place.share, os.O_PATH), os.open("/proc/self/fd", os.O_PATH)
    names = Names(Share(root, os.getuid(), os.getgid(), hidden=[*hidden_rules(HIDE)]), own, 256)
    top = names.nodes.get(1)
    assert names.look_up(top, text("seen"))
    monkeypatch.setattr(hiding, "ONE_NAME", ())
    names.hiding._one_name.clear()
    assert names.look_up(top, text("seen"))
    monkeypatch.setattr(os, "scandir", lambda descriptor: contextlib.nullcontext(()))
    for work, body in ((names.look_up, text("seen")), (names.remove, text("seen"))):
        with pytest.raises(FileNotFoundError):
            work(top, body)
    monkeypatch.setattr(filesystem, "lists", lambda directory, own, name: name == "other")
    for flags in (0, 2):
        with pytest.raises(PermissionError):  # in the place of what may be hidden
            names.rename_with_flags(top, fuse.RENAME2_IN.pack(1, flags, 0) + text("other") + text("seen"))
    names.rename_with_flags(top, fuse.RENAME2_IN.pack(1, 0, 0) + text("other") + text("new"))
    assert sorted(path.name for path in our_place.share.iterdir()) == ["new", "seen"]
    for descriptor in (root, own):
        os.close(descriptor)


def test_a_file_system_that_is_mounted_below_has_names_of_its_own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found at a mount point is on another file system than the directory that has its name."""
    root, own = os.open("/", os.O_PATH), os.open("/proc/self/fd", os.O_PATH)
    names, asked = Names(Share(root, 0, 0, hidden=[*hidden_rules(HIDE)]), own, 256), []
    monkeypatch.setattr(filesystem, "lists", lambda directory, own, name: asked.append(name) or True)
    found = fuse.ENTRY.unpack_from(names.look_up(names.nodes.get(1), text("proc")))[0]
    names.look_up(names.nodes.get(found), text("version"))  # of proc, which is none of those with one name
    assert asked[-1:] == ["version"]
    for descriptor in (root, own):
        os.close(descriptor)


def test_a_path_that_is_too_long_is_hidden_and_not_remembered(our_place: Place) -> None:
    root, own = os.open(our_place.share, os.O_PATH), os.open("/proc/self/fd", os.O_PATH)
    judge = Hiding(hidden_rules(HIDE), root, own)
    fits = "/".join(["d" * 255] * 15)
    assert not judge.hides(fits, directory=True) and not judge.hides_alike("build", "d")
    remembered = judge._judged.cache_info().currsize
    long = f"{fits}/{'d' * 255}/{'d' * 9}"
    assert judge.hides(long, directory=True) and judge.may_hide(long) and judge.leads_on(long)
    assert not judge.hides_alike(long, long) and judge._judged.cache_info().currsize == remembered
    for descriptor in (root, own):
        os.close(descriptor)
