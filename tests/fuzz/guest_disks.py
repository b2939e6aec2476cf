"""What a disk that comes from elsewhere says of the files below it."""

from __future__ import annotations

import atexit
import os
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

from disk_headers import FORMAT, qcow2

from vmm.errors import VmmError
from vmm.qcow2 import Backing, read_backing

_FILE = tempfile.NamedTemporaryFile(prefix="sandbox-fuzz-", buffering=0)  # noqa: SIM115
atexit.register(_FILE.close)
_NAMES = 0x6803F857


def slow_backing(data: bytes) -> Backing | None:
    """Field by field, as docs/interop/qcow2.txt of QEMU has them. Raises ValueError for what is no disk of ours."""

    def number(at: int, size: int) -> int:
        if at + size > len(data):
            raise ValueError("too short")
        return int.from_bytes(data[at : at + size], "big")

    version, where, length = number(4, 4), number(8, 8), number(16, 4)
    if data[:4] != b"QFI\xfb" or version not in (2, 3):
        raise ValueError("no qcow2")
    elsewhere = version == 3 and number(72, 8) & 4 != 0
    at = number(100, 4) if version == 3 else 72
    if where == 0:
        return Backing("", "", elsewhere) if elsewhere else None
    if length > 1023 or where + length > len(data):
        raise ValueError("no name")
    found: dict[int, bytes] = {}
    while at < where:
        if at + 8 > where:
            raise ValueError("half an extension")
        kind, size = number(at, 4), number(at + 4, 4)
        if kind == 0:
            break
        if kind in found or at + 8 + size > where:
            raise ValueError("read in two ways")
        found[kind] = data[at + 8 : at + 8 + size]
        at += 8 + size + -size % 8
    form = found.get(FORMAT, b"").decode("ascii", "replace")
    return Backing(os.fsdecode(data[where : where + length]), form, elsewhere, bool(found.keys() - {FORMAT, _NAMES}))


def disk(data: bytes) -> None:
    """The same file below it as a slow reader finds, or none; an error says which file it is of."""
    os.ftruncate(_FILE.fileno(), 0)
    os.pwrite(_FILE.fileno(), data, 0)
    expected: object = VmmError
    with suppress(ValueError):
        expected = slow_backing(data)
    try:
        found: object = read_backing(Path(_FILE.name))
    except VmmError as error:
        assert _FILE.name in error.brief
        found = VmmError
    assert found == expected, f"{found}, and slowly {expected}"


DISK_SEEDS = (
    qcow2("base.qcow2"),
    qcow2(None),
    qcow2("/etc/passwd", "raw", (_NAMES, b"names"), (0x1234, b"more")),
    qcow2("twice", "raw", (FORMAT, b"qcow2")),
    qcow2("x")[:72] + struct.pack(">Q", 4) + qcow2("x")[80:],
    struct.pack(">4sIQI", b"QFI\xfb", 2, 88, 4).ljust(72, b"\0") + struct.pack(">II", FORMAT, 3) + b"raw\0\0\0\0\0base",
)
DISK_WORDS = (b"QFI\xfb", struct.pack(">I", FORMAT), struct.pack(">I", _NAMES), bytes(8), b"\xff" * 8)
