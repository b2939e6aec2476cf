"""What the host changes is what the guest's next request sees, and the other way round."""

from __future__ import annotations

import os
import stat
import struct
import time
from pathlib import Path

import pytest
from fuse_client import FuseClient, FuseError, text
from server_process import Place, error_of, wait_until

from vmm.fileserver import fuse, nodes
from vmm.fileserver.files import TICK_NS
from vmm.fileserver.filesystem import Names, Share

SECOND_NS = 1_000_000_000


def whole(client: FuseClient, node: int) -> bytes:
    handle, _ = client.open(node, os.O_RDONLY)
    data = client.read(node, handle, 65536)
    client.release(node, handle)
    return data


def entry(client: FuseClient, parent: int, name: str) -> tuple[int, int, int, int]:
    """LOOKUP: the node, its size, and for how many nanoseconds its name and its attributes may be taken for true."""
    answer = client.send(fuse.LOOKUP, parent, text(name))
    node, _, name_s, attributes_s, name_ns, attributes_ns = fuse.ENTRY.unpack_from(answer)
    size = fuse.ATTRIBUTES.unpack_from(answer, fuse.ENTRY.size)[1]
    return node, size, name_s * SECOND_NS + name_ns, attributes_s * SECOND_NS + attributes_ns


def test_what_the_host_writes_is_what_the_guest_reads_next(place: Place) -> None:
    file = place.write("share/file", "one\n")
    with place.client() as (_, client):
        node = client.look_up(1, "file")
        handle, _ = client.open(node, os.O_RDONLY)
        for text_ in ("two\n", "a longer one\n", "", "3\n"):
            file.write_text(text_)
            assert client.attributes(node)[1] == len(text_)
            assert client.read(node, handle) == text_.encode()
            assert entry(client, 1, "file")[1] == len(text_)
            assert whole(client, node) == text_.encode()
        file.chmod(0o640)
        os.utime(file, ns=(1 * SECOND_NS + 5, 2 * SECOND_NS + 7))
        seen = client.attributes(node)
        assert (seen[9] & 0o777, seen[3], seen[4], seen[6], seen[7]) == (0o640, 1, 2, 5, 7)


def test_what_the_guest_writes_is_there_for_the_host_at_once(place: Place) -> None:
    with place.client() as (_, client):
        node, handle = client.create(1, "file")
        for number in range(5):
            client.write(node, handle, b"%d" % number, number)
            assert (place.share / "file").read_text() == "".join(map(str, range(number + 1)))
        client.send(fuse.SETATTR, node, fuse.SETATTR_IN.pack(fuse.SET_SIZE, 0, 0, 2, *[0] * 12))
        assert (place.share / "file").read_text() == "01"
        times = fuse.SETATTR_IN.pack(
            fuse.SET_ATIME | fuse.SET_MTIME, 0, 0, 0, 0, 11, (1 << 64) - 5, 0, 12, 13, 0, 0, 0, 0, 0, 0
        )
        client.send(fuse.SETATTR, node, times)
        seen = (place.share / "file").stat()
        assert (seen.st_atime_ns, seen.st_mtime_ns) == (11 * SECOND_NS + 12, -5 * SECOND_NS + 13)


def test_only_directories_are_believed_for_long(place: Place) -> None:
    """Their way is looked at by the server at each request; files are the guest's to ask for again."""
    place.write("share/directory/file", "x\n")
    with place.client() as (_, client):
        directory, _, name_ns, attributes_ns = entry(client, 1, "directory")
        assert name_ns > SECOND_NS and attributes_ns < 1_000_000
        file, _, name_ns, attributes_ns = entry(client, directory, "file")
        assert 0 < name_ns < SECOND_NS and 0 < attributes_ns < 1_000_000
        handle, _ = client.open(file, os.O_RDWR)
        assert entry(client, directory, "file")[3] == 0, "of what is open, nothing is taken for true"
        client.release(file, handle)
        os.link(place.share / "directory/file", place.share / "second")
        assert 0 < entry(client, directory, "file")[2] < 1_000_000, (
            "it may be another under this name, and not under that"
        )


def test_an_open_of_what_has_changed_is_looked_up_first(place: Place) -> None:
    """Else the guest's kernel would read as much of it as it had before."""
    file = place.write("share/file", "short\n")
    with place.client() as (_, client):
        node = client.look_up(1, "file")
        file.write_text("much longer\n")
        assert error_of(client.open, node, os.O_RDONLY) == "ESTALE"
        assert client.look_up(1, "file") == node
        handle, _ = client.open(node, os.O_RDONLY)
        assert client.read(node, handle) == b"much longer\n"
        client.release(node, handle)
        # One that changes all the time is opened all the same.
        client.look_up(1, "file")
        file.write_text("again\n")
        assert error_of(client.open, node, os.O_RDONLY) == "ESTALE"
        file.write_text("and again\n")
        assert whole(client, node) == b"and again\n"
        # What the guest wrote itself is no news.
        made, handle = client.create(1, "made")
        client.write(made, handle, b"x")
        client.release(made, handle)
        assert whole(client, made) == b"x"


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_name_that_leads_elsewhere_is_stale(place: Place, kind: str) -> None:
    file = place.write("share/file", "old\n")
    place.write("share/directory/file", "in the directory\n")
    with place.client() as (_, client):
        node = client.look_up(1, "file")
        held = os.open(file, os.O_RDONLY)  # so that its number is not given away
        try:
            file.unlink()
            if kind == "file":
                place.write("share/file", "new\n")
            elif kind == "link":
                file.symlink_to("directory")
            else:
                (place.share / "directory").rename(file)
            for work in (lambda: client.attributes(node), lambda: client.open(node, os.O_RDWR)):
                assert error_of(work) == "ESTALE"
            body = fuse.SETATTR_IN.pack(fuse.SET_SIZE | fuse.SET_MODE, *[0] * 15)
            assert error_of(client.send, fuse.SETATTR, node, body) == "ESTALE"
            assert error_of(client.send, fuse.LINK, 1, fuse.LINK_IN.pack(node) + text("hard")) == "ESTALE"
        finally:
            os.close(held)
        again = client.look_up(1, "file")
        assert again != node
        if kind == "file":
            assert whole(client, again) == b"new\n"
        file.rename(place.share / "away") if kind != "directory" else file.rename(place.share / "directory")
        assert error_of(client.look_up, 1, "file") == "ENOENT"


def test_directories_that_the_host_renames(place: Place) -> None:
    place.write("share/one/below/file", "one\n")
    place.write("share/two/below/file", "two\n")
    with place.client() as (_, client):
        one, below = client.look_up(1, "one"), client.walk("one/below")
        file = client.walk("one/below/file")
        (place.share / "one").rename(place.share / "three")
        for node in (below, file):
            assert error_of(client.attributes, node) == "ESTALE"
        assert error_of(client.look_up, one, "below") == "ESTALE"
        assert error_of(client.create, below, "new") == "ESTALE"
        (place.share / "two").rename(place.share / "one")  # another in its place
        assert error_of(client.look_up, one, "below") == "ESTALE"
        assert error_of(client.open, file, os.O_RDONLY) == "ESTALE"
        assert whole(client, client.walk("one/below/file")) == b"two\n"
        # Once its new name is known, all that was known below it is right again.
        assert client.look_up(1, "three") == one
        assert whole(client, file) == b"one\n" and client.attributes(below)
        client.create(below, "new")
        assert (place.share / "three" / "below" / "new").exists()
        # Moved into each other, against what the guest knows: no endless way.
        other = client.look_up(1, "one")
        (place.share / "three").rename(place.share / "one" / "three")
        assert client.look_up(other, "three") == one
        (place.share / "one" / "three").rename(place.share / "three")
        (place.share / "one").rename(place.share / "three" / "one")
        assert error_of(client.look_up, one, "one") == "ESTALE"
        assert client.look_up(1, "three") == one and client.look_up(one, "one") == other


def test_renames_of_the_guest_are_followed(place: Place) -> None:
    place.write("share/a/b/file", "x\n")
    place.write("share/c/other", "y\n")
    with place.client() as (_, client):
        a, b, c, file = client.look_up(1, "a"), client.walk("a/b"), client.look_up(1, "c"), client.walk("a/b/file")
        client.rename(1, "a", c, "moved")
        assert whole(client, file) == b"x\n" and client.look_up(a, "b") == b
        client.rename(b, "file", 1, "file")
        assert whole(client, file) == b"x\n" and (place.share / "file").exists()
        client.rename(1, "file", c, "other", 2)
        assert (place.share / "file").read_text() == "y\n"
        assert whole(client, file) == b"x\n" and whole(client, client.look_up(1, "file")) == b"y\n"
        assert error_of(client.rename, 1, "c", a, "c") == "EINVAL"


def test_hard_links_are_one_file(place: Place) -> None:
    first = place.write("share/first", "x\n")
    (place.share / "second").hardlink_to(first)
    with place.client() as (_, client):
        node = client.look_up(1, "first")
        assert client.look_up(1, "second") == node and client.attributes(node)[10] == 2
        first.unlink()
        assert client.look_up(1, "second") == node and whole(client, node) == b"x\n"
        assert client.attributes(node)[10] == 1
        answer = client.send(fuse.LINK, 1, fuse.LINK_IN.pack(node) + text("third"))
        assert fuse.ENTRY.unpack_from(answer)[0] == node
        assert (place.share / "third").samefile(place.share / "second")


@pytest.mark.parametrize("side", ["guest", "host"])
def test_a_file_that_is_removed_while_it_is_open_goes_on(place: Place, side: str) -> None:
    with place.client() as (served, client):
        node, handle = client.create(1, "file")
        client.write(node, handle, b"one")
        if side == "guest":
            client.send(fuse.UNLINK, 1, text("file"))
        else:
            (place.share / "file").unlink()
        assert client.write(node, handle, b"two", 3) == 3
        assert client.read(node, handle) == b"onetwo" and client.attributes(node)[1] == 6
        client.send(fuse.SETATTR, node, fuse.SETATTR_IN.pack(fuse.SET_SIZE | fuse.SET_FH, 0, handle, 1, *[0] * 12))
        assert client.attributes(node)[1] == 1
        another, _ = client.open(node, os.O_RDWR)
        assert client.read(node, another) == b"o"
        place.write("share/file", "another\n")
        assert client.look_up(1, "file") != node and client.read(node, handle) == b"o"
        client.release(node, handle)
        client.release(node, another)
        # The guest may hold it by a descriptor that opened nothing (O_PATH); of what the host removed it looks again.
        assert error_of(client.attributes, node) == ("" if side == "guest" else "ESTALE")
        assert not any("file (deleted)" in name for name in served.descriptors().values())


def test_pages_are_kept_only_of_an_unchanged_and_settled_version(place: Place) -> None:
    def how(flags: int = os.O_RDONLY) -> int:
        handle, answered = client.open(node, flags)
        client.release(node, handle)
        return answered & (fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_DIRECT_IO)

    def settle() -> None:
        born = max(file.stat().st_ctime_ns, file.stat().st_mtime_ns)
        wait_until(lambda: time.time_ns() - born > 2 * TICK_NS, "the clock stands still")

    file = place.write("share/file", "one\n")
    with place.client() as (_, client):
        node = client.look_up(1, "file")
        settle()
        assert how() == 0, "nothing is known of what the guest has"
        assert how() == fuse.FOPEN_KEEP_CACHE
        for change in (
            lambda: file.write_text("two\n"),
            lambda: file.chmod(0o600),
            lambda: os.utime(file),
            lambda: client.release(node, opened_and_written(client, node)),
        ):
            change()
            assert how() == 0, "just changed"
            settle()
            assert how() == 0, "what was seen may have changed within its tick"
            assert how() == fuse.FOPEN_KEEP_CACHE
        kept = file.stat()
        file.write_text("own\n")  # of the same length and times: the change is told by its ctime
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        settle()
        assert how() == 0
        for flags in (os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND):
            assert how(flags) == fuse.FOPEN_DIRECT_IO
        os.utime(file, ns=(time.time_ns(), time.time_ns() + 3600 * SECOND_NS))  # a clock that was wrong
        settle_ = time.time_ns()
        wait_until(lambda: time.time_ns() - settle_ > 2 * TICK_NS, "the clock stands still")
        assert [how(), how()] == [0, 0], "never older than now"


def opened_and_written(client: FuseClient, node: int) -> int:
    handle, _ = client.open(node, os.O_RDWR)
    client.write(node, handle, b"g")
    return handle


@pytest.mark.parametrize(("levels", "descriptors"), [(2000, None), (300, 256)])
def test_a_deep_tree(our_place: Place, levels: int, descriptors: int | None) -> None:
    """No text is ever as long as the way down, and few descriptors are enough."""
    try:
        with our_place.client(descriptors=descriptors) as (served, client):
            top, new = our_place.share / "d", our_place.share / "new"
            top.mkdir()
            inner, node = os.open(top, os.O_RDONLY), 1
            for _ in range(levels - 1):  # each new directory is put around all that are there
                new.mkdir()
                top.rename(new / "d")
                new.rename(top)
            for _ in range(levels):
                node = client.look_up(node, "d")
            file, handle = client.create(node, "file")
            assert client.write(file, handle, b"deep") == 4
            client.release(file, handle)
            assert client.listing(node) == [".", "..", "file"]
            descriptor = os.open("file", os.O_RDONLY, dir_fd=inner)
            os.close(inner)
            assert os.read(descriptor, 10) == b"deep"
            os.close(descriptor)
            assert descriptors is None or len(served.descriptors()) < descriptors / 2
            client.send(fuse.UNLINK, node, text("file"))
    finally:
        remove_deep(our_place.share)


def remove_deep(directory: Path) -> None:
    """What shutil.rmtree takes too many descriptors for: the innermost is moved out, level by level."""
    top = directory / "d"
    while top.is_dir():
        below = top / "d"
        if below.is_dir():
            below.rename(directory / "next")
        top.rmdir()
        if (directory / "next").is_dir():
            (directory / "next").rename(top)


def test_twenty_thousand_files_with_256_descriptors(our_place: Place) -> None:
    """Made, listed, looked up, written, read: none of them costs a descriptor for longer than it is open."""
    directories, each = 40, 500
    for number in range(directories):
        directory = our_place.share / f"d{number}"
        directory.mkdir()
        for file in range(each):
            descriptor = os.open(directory / f"f{file}", os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, b"%d" % file)
            os.close(descriptor)
    with our_place.client(descriptors=256) as (served, client):
        most = 0
        for number in range(directories):
            directory_node = client.look_up(1, f"d{number}")
            names = client.listing(directory_node)
            assert len(names) == each + 2
            for name in names[2:]:
                node = client.look_up(directory_node, name)
                if int(name[1:]) % 10 == 0:
                    handle, _ = client.open(node, os.O_RDONLY)
                    assert client.read(node, handle) == name[1:].encode()
                    client.release(node, handle)
            most = max(most, len(served.descriptors()))
        assert most < 128
        assert client.attributes(client.walk("d0/f7"))[1] == 1
        # Too many open at once: the guest is told, and what it has open goes on.
        node = client.walk("d0/f0")
        opened = []
        with pytest.raises(FuseError, match="ENFILE"):
            while len(opened) < 300:
                opened.append(client.open(node, os.O_RDONLY)[0])
        assert len(opened) >= 64
        assert client.read(node, opened[-1]) == b"0" and client.walk("d39/f499")
        owner = 0
        with pytest.raises(FuseError, match="ENOLCK"):
            while owner < 300:
                owner += 1
                client.lock(node, opened[0], owner, 0, 0, 1)
        assert client.walk("d20/f20") and len(served.descriptors()) < 256
        for handle in opened:
            client.release(node, handle)
        assert len(served.descriptors()) < 128
        assert whole(client, node) == b"0"


def test_a_directory_is_listed_in_parts_of_any_size(place: Place) -> None:
    names = {f"{number:03}-{'n' * (number % 200)}" for number in range(500)}
    for name in names:
        (place.share / name).touch()
    with place.client() as (_, client):
        handle = fuse.OPEN_OUT.unpack(client.send(fuse.OPENDIR, 1, fuse.OPEN_IN.pack(0, 0)))[0]
        for size in (300, 1000, 4096, 1 << 20):
            found, offset = [], 0
            while True:
                body = fuse.READ_IN.pack(handle, offset, size, 0, 0, 0, 0)
                if not (data := client.send(fuse.READDIR, 1, body, room=1 << 20)):
                    break
                assert len(data) <= size
                at = 0
                while at < len(data):
                    _, offset, length, kind = struct.unpack_from("=QQII", data, at)
                    name = data[at + 24 : at + 24 + length].decode()
                    assert kind == (stat.S_IFDIR if name in (".", "..") else stat.S_IFREG) >> 12
                    found.append(name)
                    at += 24 + length + -length % 8
            assert found[:2] == [".", ".."] and set(found[2:]) == names and len(found) == 502
        (place.share / "later").touch()
        assert "later" in client.listing(1)


def test_holes_ranges_and_copies(place: Place) -> None:
    with place.client() as (_, client):
        node, handle = client.create(1, "file")
        client.write(node, handle, b"x", 1 << 20)
        seek = fuse.LSEEK_IN.pack(handle, 0, os.SEEK_DATA, 0)
        assert fuse.LSEEK_OUT.unpack(client.send(fuse.LSEEK, node, seek))[0] in (0, 1 << 20)
        client.send(fuse.FALLOCATE, node, fuse.FALLOCATE_IN.pack(handle, 0, 2 << 20, 0, 0))
        assert (place.share / "file").stat().st_size == 2 << 20
        other, to = client.create(1, "other")
        copied = client.send(fuse.COPY_FILE_RANGE, node, fuse.COPY_IN.pack(handle, 1 << 20, other, to, 3, 1, 0))
        assert fuse.WRITE_OUT.unpack(copied)[0] == 1
        assert (place.share / "other").read_bytes() == b"\0\0\0x"
        client.send(fuse.FSYNC, node, fuse.FSYNC_IN.pack(handle, 0, 0))
        client.send(fuse.FSYNC, node, fuse.FSYNC_IN.pack(handle, 1, 0))
        assert client.send(fuse.SYNCFS, 1, bytes(8)) == b""
        assert len(client.send(fuse.STATFS, 1)) == fuse.STATFS_OUT.size


def test_who_stands_in_a_directory_that_is_removed_can_leave_it(place: Place) -> None:
    """Its kernel asks what the directory is before it goes to `..`; the host may have given its number away by then."""
    place.write("share/onto/file", "x\n")
    with place.client() as (_, client):
        for number in range(3):
            directory = client.make_directory(1, "here")
            mode = client.attributes(directory)[9]
            if number < 2:
                client.send(fuse.RMDIR, 1, text("here"))
            else:
                client.rename(1, client_made(client, "other"), 1, "here")
            again = client.make_directory(1, f"again{number}")
            assert again != directory
            assert client.attributes(directory)[9] == mode
            for ask in (client.look_up, client.create, client.make_directory):
                assert error_of(ask, directory, "x") == "ENOENT"
            assert error_of(client.listing, directory) == "ENOENT"
        node, handle = client.create(1, "open")
        client.send(fuse.UNLINK, 1, text("open"))
        assert client.attributes(node)[10] == 0  # of a file that is open the host knows more
        client.release(node, handle)


def client_made(client: FuseClient, name: str) -> str:
    client.make_directory(1, name)
    return name


def test_an_old_name_does_not_open_the_old_file(place: Place) -> None:
    """Somebody has it open, an editor of the host replaces it, and the guest's kernel takes its name for true still."""
    file = place.write("share/file", "old\n")
    with place.client() as (_, client):
        node = client.look_up(1, "file")
        handle, _ = client.open(node, os.O_RDWR)
        (place.share / "new").write_text("new\n")
        (place.share / "new").replace(file)
        for flags in (os.O_RDONLY, os.O_WRONLY | os.O_TRUNC):
            assert error_of(client.open, node, flags) == "ESTALE"
        assert client.read(node, handle) == b"old\n" and file.read_text() == "new\n"


def test_what_an_open_directory_is_does_not_depend_on_its_name(place: Place) -> None:
    place.write("share/directory/file", "x")
    with place.client() as (_, client):
        node = client.look_up(1, "directory")
        client.send(fuse.OPENDIR, node, fuse.OPEN_IN.pack(0, 0))
        (place.share / "directory").rename(place.share / "elsewhere")
        assert client.attributes(node)[0] == (place.share / "elsewhere").stat().st_ino


def test_a_mapping_of_a_file_that_is_appended_to_stays_in_place(place: Place) -> None:
    with place.client() as (_, client):
        node, handle = client.create(1, "file", os.O_RDWR | os.O_APPEND)
        client.write(node, handle, b"0123456789")
        client.write(node, handle, b"more")  # where its end is, whatever the guest thinks
        body = fuse.WRITE_IN.pack(handle, 2, 3, fuse.WRITE_CACHE, 0, 0, 0) + b"abc"
        client.send(fuse.WRITE, node, body)
        assert (place.share / "file").read_text() == "01abc56789more"


def test_a_shared_repository_keeps_its_bit(place: Place) -> None:
    directory = place.share / "shared"
    directory.mkdir()
    place.own()
    directory.chmod(0o2755)
    with place.client() as (_, client):
        node = client.look_up(1, "shared")
        client.send(fuse.SETATTR, node, fuse.SETATTR_IN.pack(fuse.SET_MODE, *[0] * 10, 0o775, 0, 0, 0, 0))
        assert stat.S_IMODE(directory.stat().st_mode) == 0o2775


def test_directories_that_only_lead_somewhere_count(our_place: Place) -> None:
    """The guest forgets them, we cannot: what it remembers below is reached through them."""
    path = our_place.share
    for _ in range(20):
        path /= "d"
        path.mkdir()
    (path / "file").write_text("")
    root, own = os.open(our_place.share, os.O_PATH), os.open("/proc/self/fd", os.O_PATH)
    names = Names(Share(root, os.getuid(), os.getgid()), own, 256)
    try:
        known, way = names.nodes, [names.nodes.get(nodes.ROOT)]
        for name in [*["d"] * 20, "file"]:
            (number,) = struct.unpack_from("=Q", names.look_up(way[-1], text(name)))
            way.append(known.get(number))
        for node in way[1:-1]:
            known.forget(node.number, 1)
        assert len(known) == len(way)
        with pytest.raises(OSError, match="Stale"):
            known.get(way[1].number)
        assert names.get_attributes(way[-1], b"")
        known.forget(way[-1].number, 1)
        assert len(known) == 1
    finally:
        names.nodes.reset()
        os.close(root)
        os.close(own)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_number_that_was_given_away_is_another_file(place: Place, kind: str) -> None:
    """By device and inode alone, the guest's old name would lead to the new file."""
    old, new = place.share / "old", place.share / "new"
    old.mkdir() if kind == "directory" else old.write_text("x")
    place.own()
    with place.client() as (_, client):
        node = client.look_up(1, "old")
        old.rename(new)  # as good as removing one and making the other with its number
        other = client.look_up(1, "new")
        assert other != node
        assert error_of(client.attributes, node) == "ESTALE"
        assert client.look_up(1, "new") == other
        # What is held open keeps its number: it is the same wherever the host moves it.
        if kind == "file":
            client.open(other, os.O_RDONLY)
        else:
            client.send(fuse.OPENDIR, other, fuse.OPEN_IN.pack(0, 0))
        new.rename(old)
        assert client.look_up(1, "old") == other
