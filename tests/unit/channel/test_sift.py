"""What of an archive goes on to the next guest: files and directories that were asked for, and nothing else."""

from __future__ import annotations

import io
import tarfile

import pytest
from test_archive import archive, entry, source

from vmm.channel.archive import Copied
from vmm.channel.errors import GuestError
from vmm.channel.sift import sift

WANTED = [".bash_history", ".claude/projects"]


def sifted(*entries: tuple[tarfile.TarInfo, bytes], limit: int = 1000, skip: bool = False) -> tuple[Copied, bytes]:
    sent = bytearray()
    copied = sift(source(archive(*entries)), sent.extend, WANTED, limit, skip=skip)
    return copied, bytes(sent)


def test_what_goes_on_is_written_anew() -> None:
    member, data = entry(".claude/projects/a.jsonl", data=b"{}\n", mode=0o6777)
    member.uid, member.uname, member.pax_headers = 12345, "somebody", {"comment": "hello"}
    directory = entry(".claude/projects", tarfile.DIRTYPE, mode=0o700)
    copied, sent = sifted(entry(".bash_history", data=b"ls\n"), directory, (member, data))
    assert (copied.files, copied.size) == (2, 6)
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        members = tar.getmembers()
        assert [(one.name, one.type) for one in members] == [
            (".bash_history", tarfile.REGTYPE),
            (".claude/projects", tarfile.DIRTYPE),
            (".claude/projects/a.jsonl", tarfile.REGTYPE),
        ]
        assert members[2].mode == 0o755 and (members[2].uid, members[2].uname) == (0, "") and not members[2].pax_headers
        content = tar.extractfile(members[2])
        assert content is not None and content.read() == b"{}\n"
    again = bytearray()
    assert sift(source(sent), again.extend, WANTED, 1000) == Copied(2, 6, ()), "it reads what it has written"


def test_long_names_and_contents_go_through() -> None:
    data = bytes(range(256)) * 1000
    name = f".claude/projects/{'d' * 120}/{'ü' * 100}"
    copied, sent = sifted(entry(name, data=data), limit=1 << 20)
    assert copied.files == 1
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        (member,) = tar.getmembers()
        content = tar.extractfile(member)
        assert member.name == name and content is not None and content.read() == data


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../.bash_history",
        ".claude/projects/../../.ssh/authorized_keys",
        ".claude/projects/./x",
        ".claude/projectsx",
        ".claude/settings.json",
        ".claude",
        "",
        ".bash_history\n",
        ".claude/projects/" + "d/" * 200,
    ],
)
def test_a_name_that_was_not_asked_for_ends_it(name: str, skip: bool) -> None:
    with pytest.raises(GuestError):
        sifted(entry(name), skip=skip)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_do_not_go_on(kind: bytes) -> None:
    bad = entry(".claude/projects/x", kind, link="/etc/passwd")
    good = entry(".bash_history", data=b"ls\n")
    with pytest.raises(GuestError, match="neither a file nor a directory"):
        sifted(bad, good)
    copied, sent = sifted(bad, good, skip=True)
    assert copied.files == 1 and len(copied.skipped) == 1
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        assert tar.getnames() == [".bash_history"]


def test_it_is_bounded() -> None:
    with pytest.raises(GuestError, match="bytes"):
        sifted(entry(".bash_history", data=b"x" * 600), entry(".claude/projects/a", data=b"x" * 600))


def test_nothing_is_nothing() -> None:
    assert sift(lambda: b"", lambda data: None, WANTED, 10) == Copied(0, 0, ())
    assert sifted() == (Copied(0, 0, ()), sifted()[1])


def test_a_stream_that_ends_early() -> None:
    whole = archive(entry(".bash_history", data=b"x" * 600))
    with pytest.raises(GuestError):
        sift(source(whole[:700]), lambda data: None, WANTED, 1000)
