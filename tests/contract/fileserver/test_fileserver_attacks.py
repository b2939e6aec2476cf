"""Root in the guest says what no kernel would say. Nothing outside of the share changes, and the server goes on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from fuse_client import FuseClient, FuseError, text
from server_process import Place, Served, error_of, picture

from vmm.fileserver import fuse

SETXATTR, GETXATTR, IOCTL, POLL, READDIRPLUS, SETUPMAPPING, STATX = 21, 22, 39, 40, 44, 48, 52
RENAME_FLAGS = {"plain": 0, "noreplace": 1, "exchange": 2, "whiteout": 4, "all": 7}
Attack = tuple[str, int, int, bytes]


def names(place: Place) -> dict[str, bytes]:
    """What is not the name of one entry of a directory."""
    return {
        "absolute": str(place.outside / "file").encode(),
        "absolute and new": str(place.outside / "new").encode(),
        "dot dot": b"..",
        "dot dot slash": b"../",
        "beside": b"../outside/file",
        "new beside": b"../new",
        "far up": b"../" * 40 + str(place.outside / "file").lstrip("/").encode(),
        "dot": b".",
        "down and up": b"directory/../..",
        "down": b"directory/below",
        "through itself": b"./file",
        "trailing slash": b"directory/",
        "empty": b"",
        "NUL inside": b"fi\0le",
        "256 bytes": b"n" * 256,
        "4096 bytes": b"n" * 4096,
        "proc": b"/proc/self/root" + str(place.outside / "file").encode(),
    }


def requests(name: bytes, directory: int, file: int) -> Iterator[Attack]:
    """Every operation that takes a name, with this one."""
    for number in (1, directory):
        yield "LOOKUP", fuse.LOOKUP, number, text(name)
        yield "SYMLINK", fuse.SYMLINK, number, text(name) + text("/etc/passwd")
        yield "MKDIR", fuse.MKDIR, number, fuse.MKDIR_IN.pack(0o755, 0) + text(name)
        for kind, device in ((stat.S_IFREG, 0), (stat.S_IFIFO, 0), (stat.S_IFCHR, 0x103), (stat.S_IFBLK, 0x800)):
            yield "MKNOD", fuse.MKNOD, number, fuse.MKNOD_IN.pack(kind | 0o666, device, 0, 0) + text(name)
        for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_WRONLY | os.O_TRUNC):
            yield "CREATE", fuse.CREATE, number, fuse.CREATE_IN.pack(flags, 0o644, 0, 0) + text(name)
        yield "LINK", fuse.LINK, number, fuse.LINK_IN.pack(file) + text(name)
        for label, flags in RENAME_FLAGS.items():
            head = fuse.RENAME2_IN.pack(1, flags, 0)
            yield f"RENAME2 {label} to", fuse.RENAME2, number, head + text("file") + text(name)
            yield f"RENAME2 {label} from", fuse.RENAME2, number, head + text(name) + text("got")
        yield "RENAME to", fuse.RENAME, number, fuse.RENAME_IN.pack(directory) + text("file") + text(name)
        yield "RENAME from", fuse.RENAME, number, fuse.RENAME_IN.pack(1) + text(name) + text("got")
        yield "UNLINK", fuse.UNLINK, number, text(name)
        yield "RMDIR", fuse.RMDIR, number, text(name)
        yield "SETXATTR", SETXATTR, number, struct.pack("=II", 1, 0) + text(name) + b"x"
        yield "GETXATTR", GETXATTR, number, struct.pack("=II", 64, 0) + text(name)
        yield "TMPFILE", fuse.TMPFILE, number, fuse.CREATE_IN.pack(os.O_RDWR, 0o644, 0, 0) + text(name)


@pytest.fixture
def project(place: Place) -> Place:
    place.write("share/file", "file\n")
    place.write("share/directory/below", "below\n")
    return place


def assert_well(served: Served, client: FuseClient) -> None:
    """It answers, and is right."""
    assert served.process.poll() is None, served.words()
    assert stat.S_ISDIR(client.attributes(1)[9])
    assert {"file", "directory"} <= set(client.listing(1))
    node = client.look_up(1, "file")
    handle, _ = client.open(node, os.O_RDONLY)
    assert client.read(node, handle) == b"file\n"
    client.release(node, handle)


@pytest.mark.parametrize("read_only", [False, True])
def test_names_that_are_none(project: Place, read_only: bool) -> None:
    with project.client(read_only=read_only) as (served, client), project.untouched():
        directory, file = client.look_up(1, "directory"), client.look_up(1, "file")
        before = picture(project.share)
        for label, name in names(project).items():
            for what, operation, node, body in requests(name, directory, file):
                for sent in (body, body.removesuffix(b"\0")):  # and without the NUL at its end
                    error = error_of(client.send, operation, node, sent)
                    assert error, (what, label, sent)
        assert picture(project.share) == before
        assert_well(served, client)
        assert served.words() == ""


def test_nodes_that_are_none(project: Place) -> None:
    with project.client() as (served, client), project.untouched():
        forgotten = client.look_up(1, "file")
        forget(client, forgotten, 1)
        gone = client.look_up(1, "directory")
        below = client.look_up(gone, "below")
        (project.share / "directory" / "below").unlink()
        (project.share / "directory").rmdir()
        for node in (0, forgotten, 999_999, 1 << 63, (1 << 64) - 1, gone, below):
            for what, operation, _, body in requests(b"new", node, node):
                error = error_of(client.send, operation, node, body)
                assert error in ("ESTALE", "ENOSYS", "EPERM", "EINVAL", "ENOTDIR"), (what, node, error)
            for operation, body in ON_NODES.items():
                error = error_of(client.send, operation, node, body)
                assert error in ("ESTALE", "EBADF", "EISDIR"), (operation, node, error)
        assert os.listdir(project.share) == ["file"]  # noqa: PTH208
        (project.share / "directory").mkdir()
        assert_well(served, client)


ON_NODES = {
    fuse.GETATTR: fuse.GETATTR_IN.pack(0, 0, 0),
    fuse.SETATTR: fuse.SETATTR_IN.pack(fuse.SET_MODE | fuse.SET_SIZE, *[0] * 10, 0o777, 0, 0, 0, 0),
    fuse.READLINK: b"",
    fuse.OPEN: fuse.OPEN_IN.pack(os.O_RDWR, 0),
    fuse.OPENDIR: fuse.OPEN_IN.pack(0, 0),
}
WITH_HANDLES: dict[int, Callable[[int], bytes]] = {
    fuse.READ: lambda handle: fuse.READ_IN.pack(handle, 0, 4096, 0, 0, 0, 0),
    fuse.WRITE: lambda handle: fuse.WRITE_IN.pack(handle, 0, 4, 0, 0, 0, 0) + b"evil",
    fuse.READDIR: lambda handle: fuse.READ_IN.pack(handle, 0, 4096, 0, 0, 0, 0),
    fuse.RELEASE: lambda handle: fuse.RELEASE_IN.pack(handle, 0, 0, 0),
    fuse.RELEASEDIR: lambda handle: fuse.RELEASE_IN.pack(handle, 0, 0, 0),
    fuse.FLUSH: lambda handle: fuse.FLUSH_IN.pack(handle, 0, 0, 1),
    fuse.FSYNC: lambda handle: fuse.FSYNC_IN.pack(handle, 0, 0),
    fuse.FSYNCDIR: lambda handle: fuse.FSYNC_IN.pack(handle, 0, 0),
    fuse.LSEEK: lambda handle: fuse.LSEEK_IN.pack(handle, 0, os.SEEK_DATA, 0),
    fuse.FALLOCATE: lambda handle: fuse.FALLOCATE_IN.pack(handle, 0, 4096, 0, 0),
    fuse.GETLK: lambda handle: fuse.LOCK_IN.pack(handle, 1, 0, 1, 1, 1, 0, 0),
    fuse.SETLK: lambda handle: fuse.LOCK_IN.pack(handle, 1, 0, 1, 1, 1, 0, 0),
    fuse.SETLKW: lambda handle: fuse.LOCK_IN.pack(handle, 1, 0, 1, 1, 1, 0, 0),
    fuse.COPY_FILE_RANGE: lambda handle: fuse.COPY_IN.pack(handle, 0, 1, handle, 0, 4, 0),
}


def forget(client: FuseClient, node: int, count: int) -> None:
    """FORGET has no answer: what comes after it has seen it."""
    body = fuse.FORGET_IN.pack(count)
    silently(client, fuse.FORGET, node, body)


def silently(client: FuseClient, operation: int, node: int, body: bytes) -> None:
    size = fuse.IN_HEADER.size + len(body)
    client.memory[0x100000 : 0x100000 + size] = fuse.IN_HEADER.pack(size, operation, 2, node, 0, 0, 1, 0, 0) + body
    assert client.chain([(0x100000, size, 0, 0)]) == 0


def test_handles_that_are_none_or_another_files(project: Place) -> None:
    with project.client() as (served, client), project.untouched():
        file, directory = client.look_up(1, "file"), client.look_up(1, "directory")
        other, handle = client.create(1, "other")
        closed, _ = client.open(file, os.O_RDWR)
        client.release(file, closed)
        for number in (0, closed, 999, 1 << 63, (1 << 64) - 1, handle):
            for operation, body in WITH_HANDLES.items():
                for node in (1, file, directory):
                    error = error_of(client.send, operation, node, body(number))
                    assert error in ("EBADF", "ESTALE"), (operation, node, number, error)
        size = fuse.SETATTR_IN.pack(fuse.SET_SIZE | fuse.SET_FH, 0, handle, *[0] * 13)
        assert error_of(client.send, fuse.SETATTR, file, size) == "EBADF"
        assert client.write(other, handle, b"still open") == 10
        assert_well(served, client)


def test_a_handle_for_reading_does_not_write(project: Place) -> None:
    with project.client() as (_, client):
        file = client.look_up(1, "file")
        reading, _ = client.open(file, os.O_RDONLY)
        assert error_of(client.write, file, reading, b"evil") == "EBADF"
        body = fuse.COPY_IN.pack(reading, 0, file, reading, 0, 4, 0)
        assert error_of(client.send, fuse.COPY_FILE_RANGE, file, body) == "EINVAL"
        body = fuse.FALLOCATE_IN.pack(reading, 0, 4096, 0, 0)
        assert error_of(client.send, fuse.FALLOCATE, file, body) == "ENOTSUP"
        assert (project.share / "file").read_text() == "file\n"


def test_a_read_only_share_changes_nothing(project: Place) -> None:
    with project.client(read_only=True) as (served, client), project.untouched():
        before = picture(project.share)
        directory, file = client.look_up(1, "directory"), client.look_up(1, "file")
        below = client.look_up(directory, "below")
        for what, operation, node, body in requests(b"new", directory, file):
            if operation != fuse.LOOKUP:
                error = error_of(client.send, operation, node, body)
                assert error in ("EROFS", "ENOSYS"), (what, error)
        for name in ("file", "directory"):
            for operation in (fuse.UNLINK, fuse.RMDIR):
                assert error_of(client.send, operation, 1, text(name)) == "EROFS"
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_RDONLY | os.O_TRUNC):
            for node in (file, below):
                assert error_of(client.open, node, flags) == "EROFS"
        assert error_of(client.send, fuse.SETATTR, file, ON_NODES[fuse.SETATTR]) == "EROFS"
        handle, _ = client.open(file, os.O_RDONLY)
        for operation in (fuse.WRITE, fuse.FALLOCATE, fuse.COPY_FILE_RANGE):
            body = WITH_HANDLES[operation](handle)
            assert error_of(client.send, operation, file, body) in ("EBADF", "EROFS")
        assert picture(project.share) == before
        assert_well(served, client)


def test_lengths_that_lie(project: Place) -> None:
    """Of the header, of bodies that are cut at each place, of data."""
    with project.client() as (served, client), project.untouched():
        file, directory = client.look_up(1, "file"), client.look_up(1, "directory")
        handle, _ = client.open(file, os.O_RDWR)
        before = picture(project.share)
        for length in (0, 1, 39, 41, 47, 49, 4096, 0xFFFFFFFF):
            assert error_of(client.send, fuse.LOOKUP, 1, b"file\0", length=length)
        wholes = [(operation, node, body) for _, operation, node, body in requests(b"new", directory, file)]
        wholes += [(operation, file, body) for operation, body in ON_NODES.items()]
        wholes += [(operation, file, body(handle)) for operation, body in WITH_HANDLES.items()]
        for operation, node, body in wholes:
            if operation in (fuse.RELEASE, fuse.RELEASEDIR, fuse.READLINK):
                continue
            for size in range(min(len(body) - 4, 60)):
                if error_of(client.send, operation, node, body[:size]) == "":
                    assert operation in (fuse.GETATTR, fuse.SETATTR), (operation, size)
        for size in (0, 3, 5, 0xFFFFFFFF):
            head = fuse.WRITE_IN.pack(handle, 0, size, 0, 0, 0, 0)
            assert error_of(client.send, fuse.WRITE, file, head + b"evil") == "EINVAL"
        read = fuse.READ_IN.pack(handle, 0, 0xFFFFFFFF, 0, 0, 0, 0)
        assert client.send(fuse.READ, file, read, room=100) == b"file\n"
        for offset in (1 << 63, (1 << 64) - 1):
            body = fuse.READ_IN.pack(handle, offset, 4096, 0, 0, 0, 0)
            assert error_of(client.send, fuse.READ, file, body) == "EINVAL"
            body = fuse.WRITE_IN.pack(handle, offset, 4, 0, 0, 0, 0) + b"evil"
            assert error_of(client.send, fuse.WRITE, file, body) == "EINVAL"
        opened = fuse.OPEN_OUT.unpack(client.send(fuse.OPENDIR, 1, fuse.OPEN_IN.pack(0, 0)))[0]
        for offset, size in ((0, 0), (0, 10), (1 << 63, 4096), ((1 << 64) - 1, 0xFFFFFFFF)):
            body = fuse.READ_IN.pack(opened, offset, size, 0, 0, 0, 0)
            assert client.send(fuse.READDIR, 1, body) == b""
        everything = fuse.READ_IN.pack(opened, 0, 0xFFFFFFFF, 0, 0, 0, 0)
        assert len(client.send(fuse.READDIR, 1, everything, room=64)) == 64
        assert picture(project.share) == before
        assert_well(served, client)


def test_forgetting_more_than_there_is(project: Place) -> None:
    with project.client() as (served, client):
        file = client.look_up(1, "file")
        for count, entries in ((0xFFFFFFFF, b""), (0xFFFFFFFF, bytes(16)), (1, bytes(15)), (0, bytes(64))):
            silently(client, fuse.BATCH_FORGET, 0, fuse.BATCH_FORGET_IN.pack(count, 0) + entries)
        assert client.attributes(file)
        many = b"".join(fuse.FORGET_ONE.pack(node, (1 << 64) - 1) for node in (0, 1, 7, 1 << 63, (1 << 64) - 1)) * 800
        silently(client, fuse.BATCH_FORGET, 0, fuse.BATCH_FORGET_IN.pack(4000, 0) + many)
        forget(client, 1, (1 << 64) - 1)
        forget(client, file, (1 << 64) - 1)
        assert error_of(client.attributes, file) == "ESTALE"
        silently(client, fuse.FORGET, file, b"")
        silently(client, fuse.INTERRUPT, file, b"")
        assert_well(served, client)


def test_operations_that_are_none(project: Place) -> None:
    with project.client() as (served, client), project.untouched():
        known = {value for name, value in vars(fuse).items() if name.isupper() and isinstance(value, int)}
        for operation in [*range(70), 4096, 4097, 0xFFFFFFFF]:
            if operation not in known:
                for node in (1, client.look_up(1, "file")):
                    assert error_of(client.send, operation, node, bytes(80)) == "ENOSYS"
        assert_well(served, client)


def test_before_init_there_is_nothing(project: Place) -> None:
    with project.serve() as served, FuseClient(served.socket) as client:
        assert error_of(client.look_up, 1, "file") == "ENODEV"
        body = fuse.INIT_IN.pack(6, 0, 0, 0)
        assert error_of(client.send, fuse.INIT, 0, body) == "EPROTO"
        assert error_of(client.send, fuse.INIT, 0, b"") == "EINVAL"
        assert error_of(client.look_up, 1, "file") == "ENODEV"
        client.init()
        assert_well(served, client)
        client.send(fuse.DESTROY, 1)
        client.init()
        assert_well(served, client)


def test_links_lead_nowhere_on_the_host(project: Place) -> None:
    """Planted by the guest, or by the host: they are read, and never followed."""
    (project.share / "hosts").symlink_to(project.outside)
    project.own()
    targets = {
        "absolute": str(project.outside),
        "up": "../outside",
        "file": str(project.outside / "file"),
        "passwd": "/etc/passwd",
        "proc": "/proc/self/root",
        "self": ".",
        "loop": "loop",
        "long": "../" * 1300 + "etc",
    }
    with project.client() as (served, client), project.untouched():
        for name, target in targets.items():
            body = text(f"link-{name}") + text(target)
            client.send(fuse.SYMLINK, 1, body)
        for name in [*(f"link-{name}" for name in targets), "hosts"]:
            link = client.look_up(1, name)
            assert stat.S_ISLNK(client.attributes(link)[9])
            assert client.send(fuse.READLINK, link).decode() == os.readlink(project.share / name)  # noqa: PTH115
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
                assert error_of(client.open, link, flags) == "ELOOP"
            assert error_of(client.listing, link) in ("ELOOP", "ENOTDIR")
            size = fuse.SETATTR_IN.pack(fuse.SET_SIZE, *[0] * 15)
            assert error_of(client.send, fuse.SETATTR, link, size) == "ELOOP"
            mode = fuse.SETATTR_IN.pack(fuse.SET_MODE, *[0] * 10, 0o777, 0, 0, 0, 0)
            assert error_of(client.send, fuse.SETATTR, link, mode) == "ENOTSUP"
            now = fuse.SETATTR_IN.pack(fuse.SET_ATIME_NOW | fuse.SET_MTIME_NOW, *[0] * 15)
            client.send(fuse.SETATTR, link, now)  # of the link itself
            for below in ("file", "sub", "new"):
                for what, operation, _, request in requests(below.encode(), link, link):
                    if not what.startswith(("RENAME", "LINK")):
                        error = error_of(client.send, operation, link, request)
                        assert error in ("ESTALE", "ENOTDIR", "ENOSYS", "EPERM"), (name, what, error)
            client.send(fuse.LINK, 1, fuse.LINK_IN.pack(link) + text(f"hard-{name}"))
            assert (project.share / f"hard-{name}").is_symlink()
        # An existing link in a new file's place is not written through.
        assert error_of(client.create, 1, "link-file") == "ESTALE"
        assert error_of(client.create, 1, "link-file", os.O_RDWR | os.O_EXCL) == "EEXIST"
        assert_well(served, client)


def test_a_directory_that_becomes_a_link_while_requests_run(project: Place) -> None:
    """Each of thousands of requests sees the directory or nothing, never what lies behind the link."""
    rounds = 1500
    project.write("share/swapped/file", "inside\n")
    project.write("outside/mine", "outside\n")
    (project.share / "other").symlink_to("../outside")
    project.own()
    libc = ctypes.CDLL(None, use_errno=True)
    one, two = (os.fsencode(project.share / name) for name in ("swapped", "other"))
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            libc.renameat2(-100, one, -100, two, 2)

    seen = {"inside": 0, "refused": 0}
    with project.client() as (served, client), project.untouched():
        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for number in range(rounds):
                try:
                    directory = client.look_up(1, "swapped")
                    for name in ("mine", "sub"):
                        assert error_of(client.look_up, directory, name)
                    file = client.look_up(directory, "file")
                    handle, _ = client.open(file, os.O_RDWR)
                    assert client.read(file, handle) == b"inside\n"
                    client.release(file, handle)
                    client.create(directory, f"made-{number}")
                    client.send(fuse.RENAME, directory, fuse.RENAME_IN.pack(directory) + text("file") + text("file2"))
                    client.send(fuse.RENAME, directory, fuse.RENAME_IN.pack(directory) + text("file2") + text("file"))
                    client.send(fuse.UNLINK, directory, text(f"made-{number}"))
                    seen["inside"] += 1
                except FuseError:
                    seen["refused"] += 1
                    for name in ("swapped", "other"):  # the renames must not stop half-way for good
                        with contextlib.suppress(FileNotFoundError):
                            (project.share / name / "file2").rename(project.share / name / "file")
        finally:
            over.set()
            thread.join()
        assert all(seen.values()), seen
        assert_well(served, client)


def test_what_is_no_file_is_not_opened(project: Place) -> None:
    """A FIFO would hold up everybody, a device is the host's."""
    kinds = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
    if os.geteuid() == 0:
        kinds |= {"null": stat.S_IFCHR, "disk": stat.S_IFBLK}
    for name, kind in kinds.items():
        try:
            os.mknod(project.share / name, kind | 0o666, os.makedev(1, 3) if kind != stat.S_IFBLK else os.makedev(7, 0))
        except PermissionError:
            pytest.skip(f"no {name} can be made here")
    project.own()
    with project.client() as (served, client):
        for name, kind in kinds.items():
            node = client.look_up(1, name)
            assert stat.S_IFMT(client.attributes(node)[9]) == kind
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY | os.O_TRUNC):
                assert error_of(client.open, node, flags) == "EACCES"
            size = fuse.SETATTR_IN.pack(fuse.SET_SIZE, *[0] * 15)
            assert error_of(client.send, fuse.SETATTR, node, size) == "EACCES"
            assert error_of(client.listing, node) in ("ENOTDIR", "EACCES")
        for kind in (stat.S_IFCHR, stat.S_IFBLK, 0, stat.S_IFDIR, stat.S_IFLNK):
            body = fuse.MKNOD_IN.pack(kind | 0o666, 0x103, 0, 0) + text("made")
            assert error_of(client.send, fuse.MKNOD, 1, body) == "EPERM"
        for kind in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK):
            body = fuse.MKNOD_IN.pack(kind | 0o6755, 0, 0, 0) + text(f"made-{kind}")
            client.send(fuse.MKNOD, 1, body)
            st = (project.share / f"made-{kind}").stat()
            assert (st.st_mode, st.st_uid) == (kind | 0o755, project.uid)
        assert_well(served, client)


def test_what_the_guest_makes_is_the_users_without_special_bits(project: Place) -> None:
    """With the very modes that it asks for, whatever the mask of the host's process."""
    before = os.umask(0o77)
    try:
        with project.client() as (_, client):
            client.create(1, "created", mode=0o6777)
            client.send(fuse.MKDIR, 1, fuse.MKDIR_IN.pack(0o6777, 0o22) + text("made"))
            node = client.look_up(1, "file")
            body = fuse.SETATTR_IN.pack(fuse.SET_MODE | fuse.SET_UID | fuse.SET_GID, *[0] * 10, 0o6711, 0, 0, 0, 0)
            client.send(fuse.SETATTR, node, body)
            assert client.attributes(node)[11:13] == (1000, 1000)
    finally:
        os.umask(before)
    modes = {"created": 0o777, "made": 0o777, "file": 0o711}
    for name, mode in modes.items():
        st = (project.share / name).stat()
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (mode, project.uid, project.gid), name


def test_a_file_that_nobody_may_write_is_cut_through_its_handle(project: Place) -> None:
    """As git does: made for reading only, and written through the handle that made it."""
    with project.client() as (_, client):
        node, handle = client.create(1, "object", mode=0o444)
        assert client.write(node, handle, b"0123456789") == 10
        client.send(fuse.SETATTR, node, fuse.SETATTR_IN.pack(fuse.SET_SIZE | fuse.SET_FH, 0, handle, 4, *[0] * 12))
        assert (project.share / "object").read_bytes() == b"0123"
        assert error_of(client.open, node, os.O_RDWR) == "EACCES"
