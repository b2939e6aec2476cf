"""The archive that the kernel unpacks, read back field by field."""

from __future__ import annotations

import stat
from dataclasses import dataclass

import pytest

from engine.build.image.cpio import Archive


@dataclass
class Entry:
    mode: int
    data: bytes
    device: tuple[int, int]
    owner: tuple[int, int]


def unpack(data: bytes) -> dict[str, Entry]:
    """A reader of newc written from its description, independent of the writer."""
    entries: dict[str, Entry] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name_end = at + 110 + fields[11]
        name = data[at + 110 : name_end - 1].decode()
        body = name_end + (-name_end % 4)
        end = body + fields[6]
        if name == "TRAILER!!!":
            return entries
        entries[name] = Entry(fields[1], data[body:end], (fields[9], fields[10]), (fields[2], fields[3]))
        at = end + (-end % 4)


def test_an_archive_reads_back() -> None:
    archive = Archive()
    archive.add_device("dev/console", 5, 1)
    archive.add_file("bin/tool", b"#!/bin/sh\n", 0o755)
    archive.add_link("bin/sh", "tool")
    archive.add_file("empty", b"")
    entries = unpack(archive.finish())
    assert list(entries) == ["dev", "dev/console", "bin", "bin/tool", "bin/sh", "empty"]
    assert stat.S_ISCHR(entries["dev/console"].mode)
    assert entries["dev/console"].device == (5, 1)
    assert stat.S_IMODE(entries["bin/tool"].mode) == 0o755
    assert entries["bin/tool"].data == b"#!/bin/sh\n"
    assert stat.S_ISLNK(entries["bin/sh"].mode)
    assert entries["bin/sh"].data == b"tool"
    assert {entry.owner for entry in entries.values()} == {(0, 0)}


def test_parents_come_before_their_children_and_once() -> None:
    archive = Archive()
    archive.add_file("a/b/c/one", b"1")
    archive.add_file("a/b/two", b"2")
    assert list(unpack(archive.finish())) == ["a", "a/b", "a/b/c", "a/b/c/one", "a/b/two"]


@pytest.mark.parametrize("size", range(9))
def test_any_size_is_padded_right(size: int) -> None:
    archive = Archive()
    archive.add_file("x" * (size + 1), b"y" * size)
    archive.add_file("after", b"z")
    data = archive.finish()
    assert len(data) % 512 == 0
    assert unpack(data)["x" * (size + 1)].data == b"y" * size
    assert unpack(data)["after"].data == b"z"


def test_two_files_of_one_name_are_refused() -> None:
    archive = Archive()
    archive.add_file("etc/hosts", b"")
    with pytest.raises(ValueError, match="etc/hosts"):
        archive.add_file("etc/hosts", b"")
