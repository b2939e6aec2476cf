"""A writer of newc cpio archives, the format of an initramfs. It can write device nodes without being root."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass
class Archive:
    """An archive. Its entries are in the order of the calls; all of them belong to root and have the time 0."""

    _data: bytearray = field(default_factory=bytearray)
    _seen: set[str] = field(default_factory=set)

    def add_directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory and its parents, except those that the archive has already."""
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent) not in (".", "/"):
                self._entry(str(parent), stat.S_IFDIR | 0o755)
        self._entry(path, stat.S_IFDIR | mode)

    def add_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._parents(path)
        self._entry(path, stat.S_IFREG | mode, data)

    def add_link(self, path: str, target: str) -> None:
        self._parents(path)
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def add_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add the node of a character device."""
        self._parents(path)
        self._entry(path, stat.S_IFCHR | mode, device=(major, minor))

    def finish(self) -> bytes:
        """The whole archive, padded to 512 bytes."""
        end = bytearray(self._data)
        end += _record("TRAILER!!!", 0, 0, b"", (0, 0))
        return bytes(end + b"\0" * (-len(end) % 512))

    def _parents(self, path: str) -> None:
        parent = str(PurePosixPath(path).parent)
        if parent not in (".", "/"):
            self.add_directory(parent)

    def _entry(self, path: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        name = path.strip("/")
        if name in self._seen:
            if stat.S_ISDIR(mode):
                return
            raise ValueError(f"{name} is in the archive already")
        self._seen.add(name)
        self._data += _record(name, len(self._seen), mode, data, device)


def _record(name: str, inode: int, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + encoded
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)
