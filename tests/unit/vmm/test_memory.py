"""Guest memory through files: every byte the same, and holes stay holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from open_memory import open_memory

from vmm import memory as module
from vmm.memory import CHUNK, GRAIN, copy_extents, data_extents, write_memory

MIB = 1024 * 1024
SIZE = 16 * MIB


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    yield
    # The listing's own descriptor has the same number both times.
    assert {path.name for path in Path("/proc/self/fd").iterdir()} <= before


def contents(descriptor: int) -> bytes:
    return os.pread(descriptor, 2 * SIZE, 0)


def blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_round_trip_with_holes(tmp_path: Path) -> None:
    pieces = {0: b"start", 3 * MIB - 2: b"over a border", 7 * MIB: os.urandom(2 * MIB + 77), SIZE - 3: b"end"}
    with open_memory(SIZE) as descriptor:
        assert os.fstat(descriptor).st_size == SIZE
        for offset, data in pieces.items():
            os.pwrite(descriptor, data, offset)
        original = contents(descriptor)
        written = write_memory(descriptor, SIZE, tmp_path / "ram")
    assert (tmp_path / "ram").stat().st_size == SIZE
    assert (tmp_path / "ram").read_bytes() == original
    assert written < 2 * MIB + 77 + 5 * GRAIN
    assert blocks(tmp_path / "ram") < 3 * MIB
    with open_memory(SIZE, tmp_path / "ram") as descriptor:
        assert contents(descriptor) == original
        assert os.fstat(descriptor).st_blocks * 512 < 3 * MIB


def test_empty_memory(tmp_path: Path) -> None:
    with open_memory(SIZE) as descriptor:
        assert write_memory(descriptor, SIZE, tmp_path / "ram") == 0
    assert (tmp_path / "ram").stat().st_size == SIZE
    assert blocks(tmp_path / "ram") == 0
    with open_memory(SIZE, tmp_path / "ram") as descriptor:
        assert contents(descriptor) == bytes(SIZE)


def test_zeros_that_were_written_are_skipped(tmp_path: Path) -> None:
    """A guest's freed pages are data for the kernel, but zeros."""
    with open_memory(SIZE) as descriptor:
        os.pwrite(descriptor, bytes(8 * MIB), 0)
        os.pwrite(descriptor, b"x", 5 * MIB + 3 * GRAIN + 1)
        assert write_memory(descriptor, SIZE, tmp_path / "ram") == GRAIN
    with (tmp_path / "ram").open("rb") as file:
        assert sum(end - start for start, end in data_extents(file.fileno(), SIZE)) <= GRAIN
    assert (tmp_path / "ram").read_bytes().find(b"x") == 5 * MIB + 3 * GRAIN + 1


def test_an_old_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "ram").write_bytes(b"y" * 2 * MIB)
    with open_memory(MIB) as descriptor:
        os.pwrite(descriptor, b"x", 0)
        write_memory(descriptor, MIB, tmp_path / "ram")
    assert (tmp_path / "ram").read_bytes() == b"x" + bytes(MIB - 1)


def test_a_disk_that_takes_a_part_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(module.os, "pwrite", lambda file, data, offset: real(file, bytes(data)[:5000], offset))
    with open_memory(2 * CHUNK) as descriptor:
        data = os.urandom(2 * CHUNK)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, data)
        assert write_memory(descriptor, 2 * CHUNK, tmp_path / "ram") == 2 * CHUNK
    assert (tmp_path / "ram").read_bytes() == data


def test_a_full_disk_is_an_error() -> None:
    with open_memory(MIB) as descriptor:
        os.pwrite(descriptor, b"x", 0)
        with pytest.raises(OSError):
            write_memory(descriptor, MIB, Path("/dev/full"))


@pytest.mark.parametrize("size", [0, 1, MIB - 1])
def test_a_template_that_was_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    """Its missing end would be zeros: a guest whose memory is partly gone."""
    (tmp_path / "ram").write_bytes(b"x" * size)
    with pytest.raises(OSError, match="too short"):
        with open_memory(MIB, tmp_path / "ram"):
            pass


def test_a_template_that_shrinks_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ram").write_bytes(b"x" * MIB)
    monkeypatch.setattr(module.os, "sendfile", lambda *_: 0)
    with pytest.raises(OSError, match="shrank"):
        with open_memory(MIB, tmp_path / "ram"):
            pass


def test_a_longer_template_is_cut(tmp_path: Path) -> None:
    with (tmp_path / "ram").open("wb") as file:
        file.write(b"x" * 10)
        file.seek(3 * MIB)
        file.write(b"y")
    with open_memory(MIB, tmp_path / "ram") as descriptor:
        assert contents(descriptor) == b"x" * 10 + bytes(MIB - 10)


def test_a_missing_template_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        with open_memory(MIB, tmp_path / "missing"):
            pass


def test_the_descriptor_is_not_inherited_by_everybody() -> None:
    with open_memory(MIB) as descriptor:
        assert not os.get_inheritable(descriptor)


def test_extents_are_within_the_size(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(8 * MIB)
        os.pwrite(file.fileno(), b"x" * 4096, MIB)
        os.pwrite(file.fileno(), b"x" * 4096, 6 * MIB)
        file.flush()
        assert list(data_extents(file.fileno(), 4 * MIB)) == [(MIB, MIB + 4096)]
        assert list(data_extents(file.fileno(), MIB + 1000)) == [(MIB, MIB + 1000)]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_copy_between_file_systems_that_share_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As of a cache on another kind of file system than the state is on."""

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(1 << 20)
        os.pwrite(file.fileno(), b"words", 512 << 10)
    with source.open("rb") as reading, target.open("wb") as writing:
        copy_extents(reading.fileno(), writing.fileno(), 1 << 20)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks == source.stat().st_blocks, "with the same holes"
