"""A small tree that guestd writes is the one that tar writes, byte for byte and bit for bit."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmm.channel import small_tree
from vmm.channel.errors import GuestError
from vmm.channel.small_tree import read_small, write_small

WHEN = 1_700_000_000.123456


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "base.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "src", tarfile.DIRTYPE, 0o755)
        _add(tar, "src/run.sh", tarfile.REGTYPE, 0o755, b"#!/bin/sh\n")
        _add(tar, "src/\udcff name", tarfile.REGTYPE, 0o644, bytes(range(256)))
        _add(tar, "src/link", tarfile.SYMTYPE, 0o777, link="../nowhere")
        _add(tar, "empty", tarfile.DIRTYPE, 0o700)
        _add(tar, "deep/without/its/directories", tarfile.REGTYPE, 0o600, b"deep")
    return path


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime, member.linkname, member.size = kind, mode, WHEN, link, len(data)
    member.uid = member.gid = os.getuid()
    tar.addfile(member, io.BytesIO(data) if data else None)


def looked_at(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        name = str(path.relative_to(directory))
        time = 0 if name.startswith(("deep", "elsewhere", "src/other")) else status.st_mtime_ns // 1000
        found[name] = (stat.filemode(status.st_mode), time, content)
    return found


def untar(archive: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    subprocess.run(["tar", "-x", "-p", "-f", str(archive), "-C", str(target)], check=True)


def write(harness: Any, archive: Path, target: Path) -> None:
    async def main() -> None:
        entries = read_small(archive)
        assert entries is not None
        async with harness.start_guestd() as process:
            await write_small(process.channel, entries, str(target), os.getuid())

    asyncio.run(main())


def _nothing(target: Path) -> None:
    pass


def _others(target: Path) -> None:
    (target / "src/run.sh").mkdir(parents=True)
    (target / "src/other").write_text("stays\n")
    (target / "src/link").write_text("a file\n")
    (target / "elsewhere").mkdir()
    (target / "empty").symlink_to("elsewhere")


@pytest.mark.parametrize("before", [_nothing, _others])
def test_it_is_what_tar_writes(harness: Any, archive: Path, tmp_path: Path, before: Callable[[Path], None]) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for target in (ours, theirs):
        target.mkdir()
        before(target)
    write(harness, archive, ours)
    untar(archive, theirs)
    assert looked_at(ours) == looked_at(theirs)


def test_a_file_is_not_written_through_a_link_in_its_place(harness: Any, archive: Path, tmp_path: Path) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    (target / "src").mkdir(parents=True)
    outside.write_text("as it was\n")
    (target / "src/run.sh").symlink_to(outside)
    write(harness, archive, target)
    assert outside.read_text() == "as it was\n" and (target / "src/run.sh").read_text() == "#!/bin/sh\n"


def test_what_is_in_the_way_is_named(harness: Any, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "target/src/run.sh/full").mkdir(parents=True)
    with pytest.raises(GuestError, match=r"src/run\.sh: Directory not empty"):
        write(harness, archive, tmp_path / "target")


def test_a_larger_tree_is_for_tar(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_small(archive) is not None
    monkeypatch.setattr(small_tree, "MOST_ENTRIES", 3)
    assert read_small(archive) is None
    monkeypatch.setattr(small_tree, "MOST_ENTRIES", 100)
    monkeypatch.setattr(small_tree, "MOST_BYTES", 1000)
    assert read_small(archive) is None


def test_what_it_does_not_know_is_for_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "base.tar", "w") as tar:
        _add(tar, "fifo", tarfile.FIFOTYPE, 0o644)
    assert read_small(tmp_path / "base.tar") is None
