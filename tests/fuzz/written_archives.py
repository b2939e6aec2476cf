"""Archives from few bytes, so that a mutation gets past the sums of headers. Slow readers of them are Python's own.

A line is a member: its kind, then `name|link|content|field=value,...`. The fields are `size`, `mode`, `mtime` as they
stand in the header, `prefix`, and any keyword of an extended header, written after `+`. A line `!` is bytes as they
are. Of an input that ends with `~`, the archive has no end.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
FIELDS = {b"mode": (100, 8), b"size": (124, 12), b"mtime": (136, 12), b"prefix": (345, 155)}


def written(text: bytes) -> bytes:
    """The archive that the lines describe."""
    without_end, lines = text.endswith(b"~"), text.removesuffix(b"~").split(b"\n")
    archive = b"".join(map(_member, filter(None, lines)))
    return archive if without_end else archive + bytes(2 * BLOCK)


def _member(line: bytes) -> bytes:
    kind, rest = line[:1], line[1:]
    if kind == b"!":
        return rest
    name, link, content, *more = [*rest.split(b"|", 3), b"", b"", b""][:4]
    header = bytearray(_header(name, kind, link, len(content)))
    records, fields = b"", [*filter(None, b"".join(more).split(b","))]
    for field in fields:
        keyword, _, value = field.partition(b"=")
        # What stands in an extended header, too, is taken from there: the other one we do not look at, and Python does.
        if keyword in FIELDS and not any(each.startswith(b"+" + keyword) for each in fields):
            at, size = FIELDS[keyword]
            header[at : at + size] = value[:size].ljust(size, b"\0")
        elif keyword.startswith(b"+"):
            records += _record(keyword[1:], value)
    before = _whole(bytearray(_header(b"x", b"x", b"", len(records)))) + _padded(records) if records else b""
    return before + _whole(header) + _padded(content)


def _header(name: bytes, kind: bytes, link: bytes, size: int) -> bytes:
    head = name[:100].ljust(100, b"\0") + b"0000644\0" * 3 + b"%011o\0" % size + b"00000001750\0" + bytes(8)
    return (head + kind + link[:100].ljust(100, b"\0") + b"ustar\00000").ljust(BLOCK, b"\0")


def _whole(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _record(keyword: bytes, value: bytes) -> bytes:
    size = len(keyword) + len(value) + 3
    length = next(number for number in range(size + 1, size + 9) if len(str(number)) + size == number)
    return b"%d %s=%s\n" % (length, keyword, value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def chunks(data: bytes, size: int) -> Callable[[], bytes]:
    """The archive as a reader gets it."""
    stream = io.BytesIO(data)
    return lambda: stream.read(size)


class Entry(NamedTuple):
    name: str
    kind: bytes
    size: int
    mode: int
    link: str
    content: bytes


def pythons(archive: bytes) -> Iterator[Entry]:
    """What Python reads. Raises tarfile.TarError and others."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            kind = b"0" if member.type == b"\0" else member.type
            yield Entry(member.name, kind, member.size, member.mode, member.linkname, file.read() if file else b"")
