"""The memory of another process: which pages are its own, and a copy that is the same to the byte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmm.errors import VmmError
from vmm.private_memory import PAGE, PrivateMemory

PAGES = 600
SIZE = PAGES * PAGE
# Maps the file (or none) privately, writes into some pages, says where, and what it sees there at the end of its input.
CHILD = """
import ctypes, hashlib, mmap, os, sys
path, size, page = sys.argv[1], int(sys.argv[2]), mmap.PAGESIZE
flags = mmap.MAP_PRIVATE if path else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
memory = mmap.mmap(os.open(path, os.O_RDONLY) if path else -1, size, flags, mmap.PROT_READ | mmap.PROT_WRITE)
for number in map(int, sys.argv[3].split(",")):
    memory[number * page : number * page + 5] = b"words"
memory[300 * page]  # a page that is only looked at stays the file's
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
sys.stdin.read()
print(hashlib.sha256(memory).hexdigest())
"""


@contextmanager
def machine(template: Path | None, written: str) -> Iterator[tuple[PrivateMemory, subprocess.Popen[str]]]:
    argv = [sys.executable, "-c", CHILD, str(template or ""), str(SIZE), written]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield PrivateMemory.of(process.pid, int(process.stdout.readline()), SIZE), process


def digest(process: subprocess.Popen[str]) -> str:
    return process.communicate()[0].strip()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """What a machine begins with: data, a hole, data."""
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.truncate(SIZE)
        os.pwrite(file.fileno(), os.urandom(100 * PAGE), 0)
        os.pwrite(file.fileno(), os.urandom(PAGE), 590 * PAGE)
    return path


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("with_file", [True, False])
def test_a_copy_is_the_same_to_the_byte(tmp_path: Path, template: Path, with_file: bool, at_once: bool) -> None:
    import hashlib

    before, target = template.read_bytes(), tmp_path / "copy"
    with machine(template if with_file else None, "0,3,200,599") as (memory, process):
        with template.open("rb") as file:
            memory.prepare(file.fileno() if with_file else None, target)
        assert target.stat().st_mode & 0o777 == 0o600 and target.stat().st_size == SIZE
        copied = memory.read_changed().write(target) if at_once else memory.write_changed(target)
        assert 4 * PAGE <= copied < 40 * PAGE or not with_file
        assert hashlib.sha256(target.read_bytes()).hexdigest() == digest(process)
    assert template.read_bytes() == before, "the file of the snapshot is not touched"


def test_only_what_was_written_is_its_own(template: Path) -> None:
    with machine(template, "7,200,201,400") as (memory, _):
        assert memory.changed() == [(number * PAGE, end * PAGE) for number, end in ((7, 8), (200, 202), (400, 401))]
        assert memory.changed_bytes() == 4 * PAGE


def test_near_pages_are_read_at_once(template: Path) -> None:
    with machine(template, "7,9,12,40") as (memory, _):
        assert memory.changed() == [(7 * PAGE, 13 * PAGE), (40 * PAGE, 41 * PAGE)]


def test_a_process_that_is_gone_is_said(template: Path) -> None:
    with machine(template, "1") as (memory, process):
        digest(process)
    with pytest.raises(VmmError, match="does not let us read the memory"):
        PrivateMemory.of(process.pid, memory.address, SIZE)


def test_an_address_that_is_not_there_is_said(template: Path) -> None:
    with machine(template, "1") as (memory, _), pytest.raises(VmmError, match="does not let us read"):
        PrivateMemory.of(memory.pid, PAGE, SIZE)
