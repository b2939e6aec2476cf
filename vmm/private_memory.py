"""Memory of a machine that only its QEMU has: which pages it has changed, and copying those out of the process.

Linux says of each page of a process whether it is its own or the file's (Documentation/admin-guide/mm/pagemap.rst),
and lets a parent read the memory of its child (proc_pid_mem(5)).
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from vmm.errors import VmmError
from vmm.memory import copy_extents, write_all
from vmm.private import private

PAGE = os.sysconf("SC_PAGE_SIZE")
ENTRY = 8  # bytes of pagemap for each page
PRESENT, SWAPPED, OF_FILE = 1 << 7, 1 << 6, 1 << 5  # in the highest byte of an entry
PIECE = 4 << 20  # bytes that are read at once
GAP = 8  # pages: a hole that is smaller is copied, too, since one call takes longer than that
THREADS = 2
_OWN = bytes(bool(top & (PRESENT | SWAPPED)) and not top & OF_FILE for top in range(256))
_RUN = re.compile(b"\1+")


@dataclass(frozen=True)
class Changed:
    """Pages of a process: `pieces` are (where in its memory, where in `content`, how many bytes)."""

    content: memoryview = field(repr=False)
    pieces: Sequence[tuple[int, int, int]]

    def write(self, target: Path) -> int:
        """Put them over what `PrivateMemory.prepare` made; returns the bytes. Raises OSError."""
        with target.open("r+b", buffering=0) as file:
            for offset, at, size in self.pieces:
                write_all(file.fileno(), self.content[at : at + size], offset)
        return sum(size for _, _, size in self.pieces)


@dataclass(frozen=True)
class PrivateMemory:
    """`size` bytes of memory that the process `pid` has at `address`."""

    pid: int
    address: int
    size: int

    @classmethod
    def of(cls, pid: int, address: int, size: int) -> PrivateMemory:
        """Raises VmmError where this host does not let us read it."""
        memory = cls(pid, address, size)
        try:
            with memory._open("mem") as file:
                os.pread(file.fileno(), PAGE, address)
            memory._pages(0, PAGE)
        except OSError as error:
            raise VmmError(
                f"this host does not let us read the memory of a machine: {error.strerror}",
                hint="a parent may read the memory of its child where `sysctl kernel.yama.ptrace_scope` is 0 or 1",
            ) from error
        return memory

    def changed_bytes(self) -> int:
        """About how much of it is the process's own, in bytes."""
        return sum(end - start for start, end in self.changed())

    def prepare(self, template: int | None, target: Path) -> None:
        """Make `target`, with all that is in the file `template` that the process has mapped. Raises OSError."""
        with open(target, "wb", opener=private) as file:
            if template is None:
                file.truncate(self.size)
            else:
                copy_extents(template, file.fileno(), self.size)

    def read_changed(self) -> Changed:
        """What is the process's own, which must stand still. It needs as much memory as that is. Raises OSError."""
        pieces, at = [], 0
        for start, end in self.changed():
            for offset in range(start, end, PIECE):
                size = min(PIECE, end - offset)
                pieces.append((offset, at, size))
                at += size
        content = memoryview(mmap.mmap(-1, max(at, 1)))
        with self._open("mem") as source, ThreadPoolExecutor(THREADS) as pool:

            def read(piece: tuple[int, int, int]) -> None:
                offset, at, size = piece
                self._read(source.fileno(), offset, content[at : at + size])

            deque(pool.map(read, pieces), maxlen=0)
        return Changed(content, pieces)

    def write_changed(self, target: Path) -> int:
        """Put what is the process's own, which must stand still, over what `prepare` made, and return the bytes.

        Piece by piece: it needs no more memory than one. Raises OSError.
        """
        written, piece = 0, memoryview(bytearray(PIECE))
        with self._open("mem") as source, target.open("r+b", buffering=0) as file:
            for start, end in self.changed():
                for offset in range(start, end, PIECE):
                    part = piece[: min(PIECE, end - offset)]
                    self._read(source.fileno(), offset, part)
                    written += write_all(file.fileno(), part, offset)
        return written

    def changed(self) -> list[tuple[int, int]]:
        """The (start, end) of what is the process's own, in bytes from its beginning; small gaps are in it, too."""
        found: list[tuple[int, int]] = []
        for start, end in self._own():
            if found and start - found[-1][1] <= GAP * PAGE:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
        return found

    def _own(self) -> Iterator[tuple[int, int]]:
        for match in _RUN.finditer(self._pages(0, self.size)):
            yield match.start() * PAGE, match.end() * PAGE

    def _pages(self, offset: int, length: int) -> bytes:
        """For each page, b"\1" where it is the process's own, else b"\0"."""
        found = bytearray()
        with self._open("pagemap") as file:
            first, count = (self.address + offset) // PAGE * ENTRY, length // PAGE * ENTRY
            while len(found) < count:
                read = os.pread(file.fileno(), min(PIECE, count - len(found)), first + len(found))
                if not read or len(read) % ENTRY:
                    raise OSError(errno.EIO, "the machine's memory is not where QEMU says")
                found += read
        # The three bits are in the last byte of each entry: of a processor of ours that is the highest one.
        return bytes(found[ENTRY - 1 :: ENTRY]).translate(_OWN)

    def _read(self, source: int, offset: int, into: memoryview) -> None:
        done = 0
        while done < len(into):
            read = os.preadv(source, [into[done:]], self.address + offset + done)
            if not read:
                raise OSError(errno.EIO, "the machine's memory ends early")
            done += read

    def _open(self, name: str) -> io.FileIO:
        return Path(f"/proc/{self.pid}/{name}").open("rb", buffering=0)
