from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from vmm.channel.archive import Copied, pack, stays_inside, unpack
from vmm.channel.errors import GuestError
from vmm.place import hold
from vmm.walk import walk


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname, member.mode, member.mtime = kind, len(data), link, mode, 1_000_000_000
    return member, data


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, data in entries:
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def source(data: bytes, chunk: int = 1000) -> Callable[[], bytes]:
    stream = io.BytesIO(data)
    return lambda: stream.read(chunk)


def unpack_to(parent: Path, *entries: tuple[tarfile.TarInfo, bytes], limit: int | None = None) -> Copied:
    return unpack(source(archive(*entries)), parent, "tree", "copy", limit)


DIR = entry("tree", tarfile.DIRTYPE, mode=0o755)


def test_round_trip_keeps_modes_times_and_links(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub" / ("long" * 40)).mkdir(parents=True)
    (tree / "sub" / "fïle\n").write_bytes(os.urandom(200_000))
    (tree / os.fsdecode(b"bytes\xff")).write_text("x")
    script = tree / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o750)
    (tree / "link").symlink_to("run.sh")
    (tree / "sub" / "up").symlink_to("../run.sh")
    os.mkfifo(tree / "fifo")
    os.utime(script, (1e9, 1e9 + 0.25))
    os.utime(tree / "sub", (1e9, 1e9))
    parts: list[bytes] = []
    here = os.open(tmp_path, os.O_RDONLY)
    sent = pack(walk(here, "tree"), "tree", parts.append)
    os.close(here)
    assert (sent.files, len(sent.skipped)) == (3, 1)
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as tar:
        assert {(m.uid, m.gid, m.uname) for m in tar} == {(1000, 1000, "")}
    target = tmp_path / "out"
    target.mkdir()
    got = unpack(source(b"".join(parts)), target, "tree", "copy", None)
    assert got == Copied(3, sent.size, ())
    copy = target / "copy"
    assert sorted(p.relative_to(copy) for p in copy.rglob("*")) == sorted(
        p.relative_to(tree) for p in tree.rglob("*") if p.name != "fifo"
    )
    assert (copy / "sub" / "fïle\n").read_bytes() == (tree / "sub" / "fïle\n").read_bytes()
    assert (copy / "run.sh").stat().st_mode & 0o7777 == 0o750
    assert (copy / "run.sh").stat().st_mtime == 1e9 + 0.25
    assert (copy / "sub").stat().st_mtime == 1e9
    assert (copy / "sub" / "up").readlink() == Path("../run.sh")


@pytest.mark.parametrize(
    "name", ["../escape", "tree/../../escape", "/etc/escape", "tree//escape", "other/file", "tree/./x", "tree/a/..", ""]
)
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(GuestError, match="the guest sent"):
        unpack_to(inside, DIR, entry(name, data=b"evil"))
    assert not (tmp_path / "escape").exists()
    assert [p.name for p in inside.rglob("*")] == ["copy"]


@pytest.mark.parametrize(
    ("name", "link", "fine"),
    [
        ("tree/a", "b", True),
        ("tree/d/a", "../b", True),
        ("tree/d/a", "../../b", False),
        ("tree/a", "..", False),
        ("tree/a", "/etc/passwd", False),
        ("tree/a", "d/../b", False),  # d may itself be a link
        ("tree/a", "./d//b/.", True),
    ],
)
def test_only_links_that_stay_inside_are_made(tmp_path: Path, name: str, link: str, fine: bool) -> None:
    got = unpack_to(tmp_path, DIR, entry("tree/d", tarfile.DIRTYPE), entry(name, tarfile.SYMTYPE, link=link))
    path = tmp_path / "copy" / name.removeprefix("tree/")
    assert path.is_symlink() == fine
    assert bool(got.skipped) != fine
    assert not stays_inside([], link)  # a tree that is itself a link


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    into = tmp_path / "into"
    (into / "copy").mkdir(parents=True)
    (into / "copy" / "planted").symlink_to(outside)  # by the guest, through a live mount
    (into / "copy" / "file").symlink_to(outside / "target")
    for evil in (
        entry("tree/planted/evil", data=b"x"),
        entry("tree/planted", tarfile.DIRTYPE),
        entry("tree/planted/dir", tarfile.DIRTYPE),
    ):
        with pytest.raises(GuestError, match="in the way"):
            unpack_to(into, DIR, evil)
    # Made by the archive itself, then used as a directory.
    with pytest.raises(GuestError, match="in the way"):
        unpack_to(
            into,
            DIR,
            entry("tree/real", tarfile.DIRTYPE),
            entry("tree/alias", tarfile.SYMTYPE, link="real"),
            entry("tree/alias/evil", data=b"x"),
        )
    unpack_to(into, DIR, entry("tree/file", data=b"new"))  # a link in the place of a file is replaced
    assert (into / "copy" / "file").read_text() == "new"
    assert not (into / "copy" / "file").is_symlink()
    assert list(outside.iterdir()) == []


def test_what_is_held_open_is_what_is_filled(tmp_path: Path) -> None:
    """A guest that swaps the target for a link, after it was looked at and before it is written to."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "results").mkdir()
    with hold(tmp_path / "results", {}, "either") as target:
        (tmp_path / "results").rename(tmp_path / "away")
        (tmp_path / "results").symlink_to(tmp_path / "victim")
        whole = archive(DIR, entry("tree/x", data=b"x"))
        unpack(source(whole), tmp_path / "results", "tree", "copy", None, target.directory)
    assert (tmp_path / "away/copy/x").read_text() == "x"
    assert list((tmp_path / "victim").iterdir()) == []


def test_devices_and_hard_links_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    got = unpack_to(
        tmp_path,
        DIR,
        entry("tree/null", tarfile.CHRTYPE),
        entry("tree/disk", tarfile.BLKTYPE),
        entry("tree/pipe", tarfile.FIFOTYPE),
        entry("tree/hard", tarfile.LNKTYPE, link="../secret"),
        entry("tree/good", data=b"g"),
    )
    assert [p.name for p in (tmp_path / "copy").iterdir()] == ["good"]
    assert len(got.skipped) == 4


def test_modes_are_made_harmless(tmp_path: Path) -> None:
    unpack_to(tmp_path, entry("tree", tarfile.DIRTYPE, mode=0o7777), entry("tree/s", data=b"x", mode=0o6777))
    assert (tmp_path / "copy" / "s").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "copy").stat().st_mode & 0o7777 == 0o755


def test_limits_and_lies(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="larger than 10"):
        unpack_to(tmp_path, DIR, entry("tree/big", data=bytes(11)), limit=10)
    whole = archive(DIR, entry("tree/big", data=bytes(100_000)))
    with pytest.raises(GuestError):
        unpack(source(whole[:50_000]), tmp_path, "tree", "copy", None)
    with pytest.raises(GuestError, match="cannot be read"):
        unpack(source(b"no archive at all" * 100), tmp_path, "tree", "copy", None)
    with pytest.raises(GuestError, match="directory is in the way"):
        unpack_to(tmp_path, DIR, entry("tree/x", tarfile.DIRTYPE), entry("tree/x", data=b"file"))
