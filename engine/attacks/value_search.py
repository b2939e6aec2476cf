"""Where a value is: in files, in the memory of a process, in environments and arguments; as it is and encoded."""

from __future__ import annotations

import array
import base64
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vmm.memory import data_extents

CHUNK = 8 << 20
PAGE = mmap.PAGESIZE
_THERE = 3 << 62  # present, or swapped


def forms(value: str) -> dict[str, bytes]:
    """The value, and what it looks like in other hands. Each is long enough to be nothing else."""
    data = value.encode()
    found = {"plain": data, "backwards": data[::-1], "hex": data.hex().encode(), "utf-16": value.encode("utf-16-le")}
    for shift in range(3):
        text = base64.b64encode(b"x" * shift + data)
        # Without what depends on the neighbours of the value.
        found[f"base64+{shift}"] = text[-(-shift * 8 // 6) + (1 if shift else 0) : -4]
    return found


def in_bytes(pieces: Iterable[bytes], needles: dict[str, bytes]) -> set[str]:
    """Which of the needles are in a stream of pieces."""
    keep = max(map(len, needles.values())) - 1
    found: set[str] = set()
    tail = b""
    for piece in pieces:
        window = tail + piece
        found |= {name for name, needle in needles.items() if name not in found and needle in window}
        tail = window[-keep:]
    return found


def in_file(path: Path, needles: dict[str, bytes]) -> set[str]:
    """Holes are not read."""
    with path.open("rb") as file:
        return in_bytes(_extents(file.fileno()), needles)


def _extents(descriptor: int) -> Iterator[bytes]:
    for start, end in data_extents(descriptor, os.fstat(descriptor).st_size):
        for at in range(start, end, CHUNK):
            yield os.pread(descriptor, min(CHUNK, end - at), at)


def in_files(directories: Iterable[Path], needles: dict[str, bytes]) -> dict[str, set[str]]:
    """Which needles are in which regular file below these directories; only files that hold any."""
    paths = (path for directory in directories for path in sorted(directory.rglob("*")))
    looked = {str(path): in_file(path, needles) for path in paths if path.is_file() and not path.is_symlink()}
    return {path: found for path, found in looked.items() if found}


def in_memory(pid: int, needles: dict[str, bytes]) -> tuple[set[str], int]:
    """Of a process, and how many bytes of it were read: its pages, in memory or swapped out, and its memory files.

    A page of a memory file that the process has not touched itself is none of its own pages.
    """
    read = 0

    def count(pieces: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal read
        for piece in pieces:
            read += len(piece)
            yield piece

    found = in_bytes(count(_pages(pid)), needles)
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if str(link.readlink()).startswith("/memfd:"):
            with link.open("rb") as file:
                found |= in_bytes(count(_extents(file.fileno())), needles)
    return found, read


def _pages(pid: int) -> Iterator[bytes]:
    process = Path(f"/proc/{pid}")
    with (process / "mem").open("rb", 0) as memory, (process / "pagemap").open("rb", 0) as pagemap:
        for start, end in list(_mappings(pid)):
            for at, size in _runs(pagemap.fileno(), start, end):
                try:
                    yield os.pread(memory.fileno(), size, at)
                except OSError:
                    continue  # a device's, or gone by now


def _mappings(pid: int) -> Iterator[tuple[int, int]]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split()
        if words[1].startswith("r") and not line.endswith(("[vvar]", "[vsyscall]")):
            start, end = words[0].split("-")
            yield int(start, 16), int(end, 16)


def _runs(pagemap: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(address, bytes) of what is there, `CHUNK` at most."""
    for base in range(start, end, CHUNK):
        stop = min(end, base + CHUNK)
        entries = array.array("Q", os.pread(pagemap, (stop - base) // PAGE * 8, base // PAGE * 8))
        begin = None
        for number, entry in enumerate(entries):
            if entry & _THERE:
                begin = number if begin is None else begin
            elif begin is not None:
                yield base + begin * PAGE, (number - begin) * PAGE
                begin = None
        if begin is not None:
            yield base + begin * PAGE, (len(entries) - begin) * PAGE


def in_processes(pids: Iterable[int], needles: dict[str, bytes]) -> dict[str, set[str]]:
    """Which needles are in which environment or arguments."""
    hits = {}
    for pid in pids:
        for name in ("environ", "cmdline"):
            try:
                data = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            if found := in_bytes([data], needles):
                hits[f"{pid} {name}"] = found
    return hits
