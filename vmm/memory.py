"""Guest memory as files: copying a snapshot's pages into a machine's own memory, and writing them out small."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from vmm.private import private

CHUNK = 1024 * 1024
GRAIN = 16 * 1024  # zero runs shorter than this are written: fewer extents, hardly more bytes
# What copy_file_range(2) says of two file systems of different kinds, and of one or a kernel that cannot do it.
CANNOT_SHARE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_ZERO_CHUNK = bytes(CHUNK)
_ZERO_GRAIN = bytes(GRAIN)


def make_memory(size: int) -> int:
    """Anonymous shareable memory of `size` bytes; returns the descriptor.

    It has no name, so nothing is left when the last process that holds it is gone. Raises OSError (ENOMEM).
    """
    descriptor = os.memfd_create("sandbox-ram", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def fill_memory(descriptor: int, size: int, template: Path) -> None:
    """Fill fresh memory from the data extents of `template`. Machines may map it meanwhile.

    Raises OSError (ENOSPC, EIO for a template that is shorter than `size`: its end would silently become zeros).
    """
    with template.open("rb") as file:
        if os.fstat(file.fileno()).st_size < size:
            raise OSError(errno.EIO, "the memory file of the snapshot is too short", str(template))
        for start, end in data_extents(file.fileno(), size):
            os.lseek(descriptor, start, os.SEEK_SET)
            offset = start
            while offset < end:
                sent = os.sendfile(descriptor, file.fileno(), offset, end - offset)
                if sent == 0:
                    raise OSError(errno.EIO, "the memory file of the snapshot shrank", str(template))
                offset += sent


def copy_extents(source: int, target: int, size: int) -> None:
    """Make the fresh file `target` what the file `source` is in its first `size` bytes, with the same holes. Where the
    file system can, both share their blocks. Raises OSError (EIO for a file that gets shorter meanwhile)."""
    os.ftruncate(target, size)
    for start, end in data_extents(source, size):
        offset = start
        while offset < end:
            if (sent := _copy(source, target, offset, end - offset)) == 0:
                raise OSError(errno.EIO, "the file shrank while it was copied")
            offset += sent


def _copy(source: int, target: int, offset: int, count: int) -> int:
    """Copy some of the bytes there, at least one of those that there are; returns how many."""
    try:
        return os.copy_file_range(source, target, count, offset, offset)
    except OSError as error:
        if error.errno not in CANNOT_SHARE:
            raise
    os.lseek(target, offset, os.SEEK_SET)
    return os.sendfile(target, source, offset, count)


def open_memory(size: int, template: Path) -> int:
    """The memory file of a snapshot, to be mapped privately: a machine of it shares the pages that it leaves alone.

    Returns a descriptor for reading. Raises OSError (EIO for a file that is shorter than `size`).
    """
    descriptor = os.open(template, os.O_RDONLY | os.O_CLOEXEC)
    if os.fstat(descriptor).st_size < size:
        os.close(descriptor)
        raise OSError(errno.EIO, "the memory file of the snapshot is too short", str(template))
    return descriptor


def write_memory(descriptor: int, size: int, target: Path) -> int:
    """Write the memory behind `descriptor` to `target`, leaving holes for zero pages; returns the bytes written."""
    written = 0
    with open(target, "wb", opener=private) as file:
        out = file.fileno()
        os.ftruncate(out, size)
        for start, end in data_extents(descriptor, size):
            for offset in range(start, end, CHUNK):
                chunk = os.pread(descriptor, min(CHUNK, end - offset), offset)
                if chunk == _ZERO_CHUNK[: len(chunk)]:
                    continue
                for begin, stop in _nonzero_runs(chunk):
                    written += write_all(out, chunk[begin:stop], offset + begin)
        os.fsync(out)
    return written


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of it there, and return how much that is. Raises OSError."""
    done = 0
    while done < len(data):  # a disk that gets full writes a part, and says so only the next time
        done += os.pwrite(descriptor, data[done:], offset + done)
    return done


def _nonzero_runs(chunk: bytes) -> Iterator[tuple[int, int]]:
    begin: int | None = None
    for position in range(0, len(chunk), GRAIN):
        grain = chunk[position : position + GRAIN]
        if grain == _ZERO_GRAIN[: len(grain)]:
            if begin is not None:
                yield begin, position
                begin = None
        elif begin is None:
            begin = position
    if begin is not None:
        yield begin, len(chunk)


def data_extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The (start, end) byte ranges of a sparse file that hold data."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        if start >= size:
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, min(end, size)
        offset = end
