"""The tar streams that the guest's own `tar -c --format=posix` writes, read member by member. Nothing else is read.

Not Python's tarfile: it takes every dialect, reads headers of any number and length into memory before it shows a
member, and raises a dozen kinds of errors. An archive of the guest may say anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from vmm.channel.errors import GuestError

BLOCK = 512
HEADERS_LIMIT = 1 << 16  # of a member's extended header: two of the longest names and a few numbers
NAME_LIMIT = 1 << 15
LINK_LIMIT = 4095  # as long as Linux makes them
PADDING_LIMIT = 1 << 20  # after the end; tar fills up its last record, of 10 KiB
TIME_LIMIT = 1 << 55  # seconds that every system call takes; file systems know fewer

FILE, HARD_LINK, LINK, DIRECTORY = b"0", b"1", b"2", b"5"
_OTHERS = {b"3": "device", b"4": "device", b"6": "pipe", HARD_LINK: "hard link"}
_EXTENDED = b"x"
_KNOWN = frozenset(b"path linkpath size mtime atime ctime uid gid uname gname comment hdrcharset".split())
_OCTAL = re.compile(rb" *([0-7]{1,12})[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,5}) ([^=\n]{1,64})=")
_SECONDS = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]{1,20}))?")


class TarMember(NamedTuple):
    """One entry. `kind` is FILE, DIRECTORY, LINK or something else; `size` is of the content that follows."""

    name: str
    kind: bytes
    size: int
    mode: int
    mtime_ns: int
    link: str


class EndedEarly(GuestError):
    """The stream ended where an archive does not. Often the guest's tar says why."""


class TarReader:
    """Reads what `receive` gives: chunks of any size, an empty one at the end. Holds one chunk and one header.

    Every method raises GuestError for what tar in the guest would not have written.
    """

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._chunk = memoryview(b"")
        self._left = 0  # of the member's content
        self._padding = 0

    def next(self) -> TarMember | None:
        """The next member, after whatever is left of the one before; None at the end."""
        while self._left:
            self.read(self._left)
        self._take(self._padding)
        self._padding = 0
        header = self._take(BLOCK)
        extended: dict[bytes, bytes] | None = None
        if header[156:157] == _EXTENDED:
            extended = self._read_extended(header)
            header = self._take(BLOCK)
        if not any(header):
            if extended is not None or any(self._take(BLOCK)):
                _refuse("its end is no end")
            self._finish()
            return None
        member = _read_member(header, extended or {})
        self._left, self._padding = member.size, -member.size % BLOCK
        return member

    def read(self, limit: int) -> bytes:
        """The next bytes of the member's content; nothing when that was all."""
        if not self._left:
            return b""
        self._fill()
        part = self._chunk[: min(limit, self._left)]
        self._chunk = self._chunk[len(part) :]
        self._left -= len(part)
        return bytes(part)

    def _read_extended(self, header: bytes) -> dict[bytes, bytes]:
        _check(header)
        size = _number(header, 124, 12, "the size")
        if size > HEADERS_LIMIT:
            _refuse(f"a member has {size} bytes of headers")
        text = self._take(size)
        self._take(-size % BLOCK)
        return _read_records(text)

    def _finish(self) -> None:
        size = len(self._chunk)
        while chunk := self._receive():
            size += len(chunk)
            if size > PADDING_LIMIT:
                _refuse("it goes on after its end")

    def _take(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._fill()
            part = self._chunk[: size - len(data)]
            self._chunk = self._chunk[len(part) :]
            data += part
        return bytes(data)

    def _fill(self) -> None:
        if not self._chunk:
            self._chunk = memoryview(self._receive())
            if not self._chunk:
                raise EndedEarly("the guest's archive ended early")


def _refuse(why: str) -> NoReturn:
    raise GuestError("the guest sent an archive that cannot be read", why)


def _check(header: bytes) -> None:
    if header[257:265] != b"ustar\00000":
        _refuse("a header is not of the kind that was asked for")
    # The sum is made with spaces in its own place.
    if _number(header, 148, 8, "a checksum") != sum(header) - sum(header[148:156]) + 8 * 0x20:
        _refuse("a header's checksum is wrong")


def _read_member(header: bytes, extended: dict[bytes, bytes]) -> TarMember:
    _check(header)
    kind = header[156:157]
    if kind == b"\0":
        kind = FILE
    if kind not in (FILE, DIRECTORY, LINK, *_OTHERS):
        _refuse(f"a member of type {kind.decode('ascii', 'backslashreplace')!r}")
    name = extended.get(b"path")
    if name is None:
        prefix = _text(header, 345, 155)
        name = (prefix + b"/" if prefix else b"") + _text(header, 0, 100)
    if header[156:157] == b"\0" and name.endswith(b"/"):
        _refuse("a member that is a file to us and a directory to other readers")
    link = extended.get(b"linkpath", _text(header, 157, 100))
    if len(name) > NAME_LIMIT or len(link) > LINK_LIMIT or b"\0" in name + link:
        _refuse("a name that is too long, or holds a zero")
    size = _decimal(extended[b"size"]) if b"size" in extended else _number(header, 124, 12, "a size")
    if size and kind != FILE:
        _refuse("content of something that is no file")
    seconds = extended.get(b"mtime")
    mtime_ns = _number(header, 136, 12, "a time") * 10**9 if seconds is None else _nanoseconds(seconds)
    return TarMember(os.fsdecode(name), kind, size, _number(header, 100, 8, "a mode"), mtime_ns, os.fsdecode(link))


def _text(header: bytes, at: int, size: int) -> bytes:
    return header[at : at + size].split(b"\0", 1)[0]


def _number(header: bytes, at: int, size: int, what: str) -> int:
    match = _OCTAL.fullmatch(header[at : at + size])
    if match is None:
        _refuse(f"{what} is no number")
    return int(match[1], 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        _refuse("a size is no number")
    return int(text)


def _nanoseconds(text: bytes) -> int:
    match = _SECONDS.fullmatch(text)
    if match is None:
        _refuse("a time is no number")
    sign, seconds, fraction = match.groups()
    nanoseconds = min(int(seconds), TIME_LIMIT) * 10**9 + int((fraction or b"0")[:9].ljust(9, b"0"))
    return -nanoseconds if sign else nanoseconds


def _read_records(text: bytes) -> dict[bytes, bytes]:
    """Of an extended header: `LENGTH KEYWORD=VALUE` and a line end, the length counting all of it."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(text):
        match = _RECORD.match(text, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(text) or text[end - 1 : end] != b"\n":
            _refuse("an extended header cannot be read")
        if match[2] not in _KNOWN or match[2] in records:
            _refuse(f"an extended header says {match[2].decode('ascii', 'backslashreplace')!r}")
        records[match[2]] = text[match.end() : end - 1]
        at = end
    return records
