"""The key of a tree of files. It changes exactly when a copy of the tree would be different."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import replace

from engine.errors import EngineError
from engine.state.keys import KEY_LENGTH
from vmm.walk import Found, Readable

BLOCK = 1 << 18


class TreeDigest:
    """Computes the key of a file, or of everything in a directory: names, x bits, symlink targets and contents.

    Empty directories count. Times, owners and other mode bits do not count.
    """

    def __init__(self, shown: str) -> None:
        """`shown` is the name of the tree in errors."""
        self._shown = shown
        self._digest = hashlib.sha256()

    def follow(self, entries: Iterable[Found]) -> Iterator[Found]:
        """Yield the same entries, and add each one to the key when the caller asks for the next.

        A file is hashed while the caller reads it, so the key covers exactly the bytes that the caller got; the rest of
        the file is read afterwards. Modes become 0o755 or 0o644, since the key knows no others. Raises EngineError for
        an entry that cannot be copied (a socket, a device) and for a symlink that leads out of the directory.
        """
        for entry in entries:
            content = _Hashed(entry.content) if entry.content is not None else None
            executable = bool(entry.mode & 0o111)
            yield replace(entry, content=content, mode=0o755 if executable or entry.kind == "directory" else 0o644)
            match entry.kind:
                case "directory":
                    self._add("d", entry.name, b"")
                case "link":
                    self._check_link(entry)
                    self._add("l", entry.name, os.fsencode(entry.link))
                case "file":
                    assert content is not None, "a file comes open"
                    while content.read(BLOCK):
                        pass
                    self._add("x" if executable else "f", entry.name, content.digest.digest())
                case "other":
                    raise EngineError(
                        f"{self._place(entry.name)} is neither a file, a directory nor a symlink",
                        hint="remove it, or ignore it",
                    )

    def key(self) -> str:
        """The key of the entries that were added so far."""
        return self._digest.hexdigest()[:KEY_LENGTH]

    def _add(self, kind: str, name: str, content: bytes) -> None:
        self._digest.update(record(kind, name, content))

    def _check_link(self, entry: Found) -> None:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(entry.name), entry.link))
        if not entry.name or entry.link.startswith("/") or target.split("/")[0] == "..":
            raise EngineError(
                f"{self._place(entry.name)} is a symlink out of {self._shown}",
                details=f"it points to {entry.link}",
                hint="only what is inside the directory is copied: replace the link by its target, or ignore it",
            )

    def _place(self, name: str) -> str:
        return posixpath.normpath(posixpath.join(self._shown, name))


def record(kind: str, name: str, content: bytes) -> bytes:
    """The bytes that stand for one entry. Lengths come first, so that no two trees give the same bytes."""
    encoded = os.fsencode(name)
    return f"{kind} {len(encoded)} {len(content)}\n".encode() + encoded + content


class _Hashed:
    """A file that hashes what is read from it."""

    def __init__(self, content: Readable) -> None:
        self._content = content
        self.digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._content.read(size)
        self.digest.update(data)
        return data
