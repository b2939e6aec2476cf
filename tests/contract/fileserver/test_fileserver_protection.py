"""Files of a writable share that root in the guest cannot change, whatever the host does with them meanwhile."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fuse_client import FuseClient, text
from server_process import Place, Served, error_of, picture

from vmm.fileserver import fuse
from vmm.fileserver.protection import folded

FILE, BELOW, LATER, NESTED = "Sandboxfile.yaml", "sub/deep/kept.yaml", "Sandboxfile.local.yaml", "none/at/all.yaml"
PROTECTED = (FILE, BELOW, LATER, NESTED)
REFUSED = ("EROFS", "EBUSY")
OTHER = "other"


def set_attributes(valid: int, **values: int) -> bytes:
    fields = ("valid", "padding", "fh", "size", "owner", "atime", "mtime", "ctime", "ans", "mns", "cns", "mode")
    return fuse.SETATTR_IN.pack(*({"valid": valid, **values}.get(name, 0) for name in fields), 0, 0, 0, 0)


@pytest.fixture
def project(place: Place) -> Place:
    place.write(f"share/{FILE}", "kept\n")
    place.write(f"share/{BELOW}", "kept below\n")
    place.write(f"share/{OTHER}", "other\n")
    place.write("share/directory/file", "d\n")
    return place


@pytest.fixture
def served(project: Place) -> Iterator[tuple[Served, FuseClient]]:
    with project.client(protected=PROTECTED) as (served, client), project.untouched():
        yield served, client
        assert served.words() == ""


@pytest.fixture
def client(served: tuple[Served, FuseClient]) -> FuseClient:
    return served[1]


def names_attacked(client: FuseClient, path: str, other: str = OTHER) -> dict[str, str]:
    """Every way to put something in a name's place, or to take it away."""
    above, name = client.place(path)
    found = {
        "unlink": error_of(client.send, fuse.UNLINK, above, text(name)),
        "rmdir": error_of(client.send, fuse.RMDIR, above, text(name)),
        "create": error_of(client.create, above, name),
        "create exclusively": error_of(client.create, above, name, os.O_RDWR | os.O_EXCL | os.O_CREAT),
        "create and truncate": error_of(client.create, above, name, os.O_WRONLY | os.O_TRUNC),
        "symlink": error_of(client.send, fuse.SYMLINK, above, text(name) + text(other)),
        "mkdir": error_of(client.make_directory, above, name),
        "mknod": error_of(client.send, fuse.MKNOD, above, fuse.MKNOD_IN.pack(0o100644, 0, 0, 0) + text(name)),
        "link over": error_of(client.send, fuse.LINK, above, fuse.LINK_IN.pack(client.look_up(1, other)) + text(name)),
        "rename away": error_of(client.rename, above, name, 1, "away"),
        "rename over": error_of(client.rename, 1, other, above, name),
        "rename a directory over": error_of(client.rename, 1, "directory", above, name),
    }
    for label, flags in (("noreplace", 1), ("exchange", 2)):
        found[f"{label} away"] = error_of(client.rename, above, name, 1, "away", flags)
        found[f"{label} over"] = error_of(client.rename, 1, other, above, name, flags)
    found["exchange away"] = error_of(client.rename, above, name, 1, other, 2)
    found["whiteout"] = "EROFS" if error_of(client.rename, above, name, 1, "away", 4) else ""
    return found


def content_attacked(client: FuseClient, node: int) -> dict[str, str]:
    """Every way to change what a file holds and says of itself."""
    found = {
        f"open {flags:o}": error_of(client.open, node, flags)
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC, os.O_TRUNC, 3)
    }
    for name, body in {
        "truncate": set_attributes(fuse.SET_SIZE),
        "chmod": set_attributes(fuse.SET_MODE, mode=0o777),
        "chown": set_attributes(fuse.SET_UID | fuse.SET_GID),
        "utime": set_attributes(fuse.SET_ATIME | fuse.SET_MTIME, atime=1, mtime=1),
        "touch": set_attributes(fuse.SET_ATIME_NOW | fuse.SET_MTIME_NOW),
    }.items():
        found[name] = error_of(client.send, fuse.SETATTR, node, body)
    found["link"] = error_of(client.send, fuse.LINK, 1, fuse.LINK_IN.pack(node) + text("hard"))
    return found


def through_a_handle(client: FuseClient, node: int, handle: int) -> dict[str, str]:
    """With a handle that was opened for writing while nobody minded."""
    other = client.look_up(1, OTHER)
    source, _ = client.open(other, os.O_RDONLY)
    copy = fuse.COPY_IN.pack(source, 0, node, handle, 0, 4, 0)
    found = {
        "write": error_of(client.write, node, handle, b"evil"),
        "append": error_of(client.write, node, handle, b"evil", 1 << 20),
        "fallocate": error_of(client.send, fuse.FALLOCATE, node, fuse.FALLOCATE_IN.pack(handle, 0, 1 << 16, 0, 0)),
        "punch": error_of(client.send, fuse.FALLOCATE, node, fuse.FALLOCATE_IN.pack(handle, 0, 4, 3, 0)),
        "copy": error_of(client.send, fuse.COPY_FILE_RANGE, other, copy),
        "truncate": error_of(client.send, fuse.SETATTR, node, set_attributes(fuse.SET_SIZE | fuse.SET_FH, fh=handle)),
    }
    client.release(other, source)
    return found


def all_refused(found: dict[str, str], allowed: tuple[str, ...] = REFUSED) -> None:
    assert {what: error for what, error in found.items() if error not in allowed} == {}


def untouched_files(project: Place) -> dict[str, object]:
    seen = picture(project.share)
    return {path: what for path, what in seen.items() if Path(path).name in (Path(FILE).name, Path(BELOW).name)}


@pytest.mark.parametrize("path", [FILE, BELOW])
def test_a_protected_file_stays_as_it_is(project: Place, client: FuseClient, path: str) -> None:
    before = untouched_files(project)
    node = client.walk(path)
    all_refused(names_attacked(client, path))
    all_refused(content_attacked(client, node))
    reading, _ = client.open(node, os.O_RDONLY)
    assert client.read(node, reading) == (project.share / path).read_bytes()
    assert error_of(client.write, node, reading, b"evil") == "EBADF"
    all_refused(through_a_handle(client, node, reading), (*REFUSED, "EBADF", "ENOTSUP", "EINVAL"))
    assert untouched_files(project) == before and len(before) == 2
    assert not {"away", "hard"} & set(os.listdir(project.share))  # noqa: PTH208


def test_all_around_it_the_guest_does_as_it_likes(project: Place, client: FuseClient) -> None:
    node, handle = client.create(1, "new")
    assert client.write(node, handle, b"n\n") == 2
    client.rename(1, "new", 1, "moved")
    client.send(fuse.LINK, 1, fuse.LINK_IN.pack(node) + text("hard"))
    client.send(fuse.SETATTR, node, set_attributes(fuse.SET_MODE, mode=0o600))
    client.send(fuse.UNLINK, 1, text("moved"))
    assert (project.share / "hard").read_text() == "n\n"
    client.rename(1, "directory", 1, "elsewhere")
    client.rename(1, "elsewhere", client.walk("sub"), "directory")
    client.create(client.walk("sub/deep"), "beside")
    client.create(client.walk("sub"), Path(BELOW).name)  # the same name, elsewhere
    client.rename(1, OTHER, 1, "hard", 2)
    assert {path.name for path in (project.share / "sub").iterdir()} == {"deep", "directory", Path(BELOW).name}


def test_its_directories_stay_where_they_are(project: Place, client: FuseClient) -> None:
    before = untouched_files(project)
    for path in ("sub", "sub/deep"):
        above, name = client.place(path)
        node = client.walk(path)
        found = names_attacked(client, path)
        assert found.pop("mkdir") == "EEXIST"
        all_refused(found)
        for target in (1, client.walk("directory"), above):
            for flags in (0, 1, 2):
                assert error_of(client.rename, above, name, target, "x", flags) == "EBUSY"
        assert error_of(client.rename, above, name.upper(), 1, "x") in ("EBUSY", "ENOENT")
        client.send(fuse.SETATTR, node, set_attributes(fuse.SET_MODE, mode=0o755))
    assert error_of(client.rename, 1, "directory", 1, "sub", 2) == "EBUSY"
    assert untouched_files(project) == before


def test_before_there_is_one_the_guest_cannot_make_it(project: Place, client: FuseClient) -> None:
    for name in (LATER, LATER.upper(), LATER.title(), LATER.replace("o", "O"), "none", "NONE", "None"):
        found = names_attacked_new(client, 1, name)
        if name.lower() == "none":  # a directory it may be: what is below is as protected
            assert found.pop("mkdir") == ""
        all_refused(found)
        if name.lower() == "none":
            below = client.look_up(1, name)
            if name == "none":
                all_refused(names_attacked(client, "none") | {"mkdir": "EBUSY"})
                client.make_directory(below, "at")
                found = names_attacked_new(client, client.walk("none/at"), "all.yaml")
                all_refused(found)
                all_refused(names_attacked_new(client, client.walk("none/at"), "ALL.YAML"))
    assert not (project.share / LATER).exists() and list((project.share / "none" / "at").iterdir()) == []


def names_attacked_new(client: FuseClient, above: int, name: str) -> dict[str, str]:
    """Every way to make something of a name that is not there."""
    return {
        "create": error_of(client.create, above, name),
        "symlink": error_of(client.send, fuse.SYMLINK, above, text(name) + text(OTHER)),
        "mkdir": error_of(client.make_directory, above, name),
        "mknod": error_of(client.send, fuse.MKNOD, above, fuse.MKNOD_IN.pack(0o100644, 0, 0, 0) + text(name)),
        "link": error_of(client.send, fuse.LINK, above, fuse.LINK_IN.pack(client.look_up(1, OTHER)) + text(name)),
        "rename": error_of(client.rename, 1, OTHER, above, name),
        "noreplace": error_of(client.rename, 1, OTHER, above, name, 1),
        "rename a directory": error_of(client.rename, 1, "directory", above, name),
    }


@pytest.mark.parametrize(
    "spelling",
    ["SANDBOXFILE.YAML", "ſandboxfile.yaml", "Sandbox\u200dfile.yaml", "Sandboxfile.yaml.", "Sandboxfile.yaml ",
     "\ufeffSandboxfile.yaml", "Sandboxfile\ufe0f.yaml"],
)  # fmt: skip
def test_other_spellings_are_taken_for_the_same(spelling: str) -> None:
    """Some file system has one file for them."""
    assert folded(spelling) == folded(FILE)
    assert folded("e\u0301") == folded("\u00c9") != folded("e")


def numbers(st: os.stat_result) -> tuple[int, ...]:
    return st.st_ino, st.st_mode, st.st_uid, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def in_place(path: Path) -> None:
    path.write_text("edited\n")


def by_rename(path: Path) -> None:
    path.with_name("beside~").write_text("edited\n")
    path.with_name("beside~").replace(path)


def anew(path: Path) -> None:
    path.unlink()
    path.write_text("edited\n")


def by_backup(path: Path) -> None:
    path.rename(path.with_name("kept~"))
    path.write_text("edited\n")


def with_its_directory(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    path.write_text("edited\n")


def with_its_directory_moved_in(path: Path) -> None:
    path.parent.rename(path.parent.with_name("old"))
    beside = path.parent.with_name("beside")
    beside.mkdir()
    (beside / path.name).write_text("edited\n")
    beside.rename(path.parent)


EDITS: list[tuple[str, Callable[[Path], None]]] = [
    *((path, edit) for path in (FILE, BELOW) for edit in (in_place, by_rename, anew, by_backup)),
    (BELOW, with_its_directory),
    (BELOW, with_its_directory_moved_in),
    (LATER, in_place),
]


@pytest.mark.parametrize(("path", "edit"), EDITS, ids=[f"{Path(path).name}-{edit.__name__}" for path, edit in EDITS])
def test_the_host_edits_and_it_is_protected_from_that_moment(
    project: Place, client: FuseClient, path: str, edit: Callable[[Path], None]
) -> None:
    """Without a window: the guest's next request is refused already. The old file is an ordinary one from then on."""
    try:
        node = client.walk(path)
    except Exception:
        node = 0
    edit(project.share / path)
    project.own()
    before = (project.share / path).stat()
    all_refused(names_attacked(client, path))
    found = content_attacked(client, client.walk(path))
    all_refused(found)
    all_refused(content_attacked(client, node), (*REFUSED, "ESTALE", "EISDIR")) if node else None
    after = (project.share / path).stat()
    assert (project.share / path).read_text() == "edited\n"
    assert numbers(before) == numbers(after)


@pytest.mark.parametrize("path", [FILE, BELOW, LATER])
def test_a_handle_of_the_editors_temporary_file_does_not_outlive_the_rename(
    project: Place, client: FuseClient, path: str
) -> None:
    """Opened for writing, mapped, appended to: by its own name, before it was what it is."""
    temporary = project.write(f"share/{Path(path).parent}/4913~", "edited\n")
    node = client.walk(str(temporary.relative_to(project.share)))
    handles = [client.open(node, flags)[0] for flags in (os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND)]
    assert client.write(node, handles[0], b"EDITED\n") == 7, "so far it is a file like any other"
    temporary.replace(project.share / path)
    before = (project.share / path).stat()
    for handle in handles:
        found = through_a_handle(client, node, handle)
        all_refused(found)
    all_refused(content_attacked(client, node), (*REFUSED, "ESTALE"))
    after = (project.share / path).stat()
    assert (project.share / path).read_text() == "EDITED\n"
    assert numbers(before) == numbers(after)


def test_a_hard_link_of_the_host_is_the_same_file(project: Place, client: FuseClient) -> None:
    """By whatever name: before and after the link was made."""
    (project.share / "directory" / "second").hardlink_to(project.share / FILE)
    second = client.walk("directory/second")
    assert second == client.look_up(1, FILE)
    all_refused(content_attacked(client, second))
    all_refused(names_attacked(client, "directory/second"), (*REFUSED, "EEXIST", "ESTALE", "ENOTDIR"))
    # ... and the other way: an ordinary file that the host links into the place, with a handle that is open.
    node, handle = client.create(1, "ordinary")
    (project.share / LATER).hardlink_to(project.share / "ordinary")
    all_refused(through_a_handle(client, node, handle))
    all_refused(content_attacked(client, node))
    assert (project.share / FILE).read_text() == "kept\n" and (project.share / LATER).read_text() == ""


def test_links_in_the_way(project: Place) -> None:
    """Each component that was named stays what it is; what lies behind a link is as protected as it was named."""
    (project.share / "link").symlink_to(FILE)
    (project.share / "out").symlink_to("/etc/hostname")
    (project.share / "way").symlink_to("sub/deep")
    project.own()
    protected = ("link", "out", "way/kept.yaml", FILE, BELOW)
    with project.client(protected=protected) as (_, client):
        before = picture(project.share)
        for name in ("link", "out", "way", FILE):
            found = names_attacked(client, name)
            all_refused(found, (*REFUSED, "EEXIST") if name == "way" else REFUSED)
        all_refused(content_attacked(client, client.look_up(1, FILE)))
        all_refused(content_attacked(client, client.walk(BELOW)))
        all_refused(names_attacked(client, BELOW))
        assert {path: what[0] for path, what in picture(project.share).items()} == {
            path: what[0] for path, what in before.items()
        }


def test_the_host_renames_again_and_again_while_the_guest_tries(project: Place, client: FuseClient) -> None:
    """Nothing of the guest's ever gets into the file."""
    over = threading.Event()
    wrong: list[str] = []
    file = project.share / FILE

    def edit() -> None:
        number = 0
        while not over.is_set():
            number += 1
            beside = file.with_name("beside~")
            beside.write_text(f"edit {number}\n")
            os.chown(beside, project.uid, project.gid)
            beside.replace(file)
            if (seen := file.read_text()) != f"edit {number}\n":
                wrong.append(seen)

    thread = threading.Thread(target=edit)
    thread.start()
    tries = 0
    try:
        while tries < 400:
            node = client.look_up(1, FILE)
            for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
                # An old one is an ordinary file, if it can be opened at all: it has no name any more, so what is
                # written into it is seen by nobody, least of all under the name that it had.
                assert error_of(write_into, client, node, flags) in (*REFUSED, "ESTALE", "")
            assert error_of(client.send, fuse.UNLINK, 1, text(FILE)) in REFUSED
            assert error_of(client.rename, 1, OTHER, 1, FILE) in REFUSED
            tries += 1
    finally:
        over.set()
        thread.join()
    assert wrong == []


def write_into(client: FuseClient, node: int, flags: int) -> None:
    handle, _ = client.open(node, flags)
    client.write(node, handle, b"the guest's\n")
    client.release(node, handle)


TREE = ".git/hooks"


def test_all_in_a_protected_directory_stays_as_it_is(project: Place) -> None:
    """By names, nodes and handles; also what the host puts there while the guest has it open."""
    project.write(f"share/{TREE}/sub/pre-commit", "kept\n")
    project.write("share/.git/HEAD", "ref\n")
    with project.client(protected=(TREE,)) as (_, client):
        before = picture(project.share / ".git")
        for path in (f"{TREE}/sub/pre-commit", f"{TREE}/sub"):
            found = names_attacked(client, path)
            assert found.pop("mkdir") in ("EEXIST", *REFUSED)
            all_refused(found)
        for path in (TREE, f"{TREE}/sub"):
            all_refused(names_attacked_new(client, client.walk(path), "new"))
            all_refused(
                {"chmod": error_of(client.send, fuse.SETATTR, client.walk(path), set_attributes(fuse.SET_MODE))}
            )
        all_refused(content_attacked(client, client.walk(f"{TREE}/sub/pre-commit")))
        assert error_of(client.rename, 1, ".git", 1, "git2") == "EBUSY"
        assert error_of(client.rename, client.walk(".git"), "hooks", 1, "hooks") in REFUSED
        assert picture(project.share / ".git") == before
        # Beside it all goes on: git's own work.
        client.create(client.walk(".git"), "index.lock")
        client.rename(client.walk(".git"), "index.lock", client.walk(".git"), "index")
        node, handle = client.create(1, "draft")
        assert client.write(node, handle, b"mine\n") == 5
        (project.share / "draft").rename(project.share / TREE / "post-commit")
        all_refused(through_a_handle(client, node, handle), (*REFUSED, "ESTALE"))
        assert (project.share / TREE / "post-commit").read_text() == "mine\n"


@pytest.mark.parametrize("name", [".git", ".GIT", ".Git"])
def test_where_there_is_none_the_guest_makes_no_such_directory_by_a_detour(project: Place, name: str) -> None:
    """Neither by a link, nor by a directory of its own that is moved there, nor as git's file of a worktree."""
    with project.client(protected=(TREE, ".git/config")) as (_, client):
        own = client.make_directory(1, "own")
        client.create(client.make_directory(own, "hooks"), "pre-commit")
        found = names_attacked_new(client, 1, name)
        assert found.pop("mkdir") == "", "an empty one is no harm"
        found["moved"] = error_of(client.rename, 1, "own", 1, name)
        all_refused(found)
        if name != ".git":
            return  # here it is another directory; where letter case makes no difference it is found to be this one
        above = client.look_up(1, name)
        for below in ("hooks", "HOOKS", "config"):
            all_refused(names_attacked_new(client, above, below))
        assert error_of(client.rename, own, "hooks", above, "hooks") in REFUSED
        assert list((project.share / name).iterdir()) == []


def test_nobody_else_is_let_into_the_directories_that_lead_there(project: Place) -> None:
    """With 0777 on .git, another user of the host could put a hook of his own in the place of a protected one."""
    (project.share / "sub").chmod(0o755)
    (project.share / "directory").chmod(0o755)
    with project.client(protected=PROTECTED) as (_, client):
        modes = {}
        for path, asked in (("sub", 0o777), ("sub/deep", 0o1733), ("directory", 0o777), ("sub", 0o700)):
            node = client.walk(path)
            client.send(fuse.SETATTR, node, set_attributes(fuse.SET_MODE, mode=0o40000 | asked))
            modes[path, asked] = (project.share / path).stat().st_mode & 0o7777
        client.send(fuse.SETATTR, 1, set_attributes(fuse.SET_MODE, mode=0o40777))
        client.send(fuse.MKDIR, 1, fuse.MKDIR_IN.pack(0o777, 0) + text("none"))
        client.send(fuse.MKDIR, 1, fuse.MKDIR_IN.pack(0o777, 0) + text("another"))
    assert (project.share / "none").stat().st_mode & 0o777 == 0o755
    assert (project.share / "another").stat().st_mode & 0o777 == 0o777
    assert modes == {
        ("sub", 0o777): 0o755,
        ("sub/deep", 0o1733): 0o1711,
        ("directory", 0o777): 0o777,
        ("sub", 0o700): 0o700,
    }
    assert project.share.stat().st_mode & 0o022 == 0
    (project.share / "sub").chmod(0o775)  # the host lets its group write there: that stays possible
    with project.client(protected=PROTECTED) as (_, client):
        client.send(fuse.SETATTR, client.walk("sub"), set_attributes(fuse.SET_MODE, mode=0o40775))
    assert (project.share / "sub").stat().st_mode & 0o777 == 0o775
