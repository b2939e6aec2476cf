"""The key of a tree of files: it changes exactly when what a copy of the tree would have does."""

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
    """The key of a file or of everything in a directory: names, x bits, symlink targets, contents.

    Empty directories count. Times, owners and other mode bits do not.
    """

    def __init__(self, shown: str) -> None:
        """`shown` is what the tree is called in errors."""
        self._shown = shown
        self._digest = hashlib.sha256()

    def follow(self, entries: Iterable[Found]) -> Iterator[Found]:
        """The same entries; each is taken in when the next one is asked for.

        A file's bytes are hashed as they are read, so that what somebody sends of it is what counts; what was not read
        by then is read. Permissions become the ones that the key knows. Raises EngineError for what cannot be copied
        elsewhere (sockets, devices), and for a symlink that leaves the directory.
        """
        for found in entries:
            content = _Hashed(found.content) if found.content is not None else None
            executable = bool(found.mode & 0o111)
            yield replace(found, content=content, mode=0o755 if executable or found.kind == "directory" else 0o644)
            match found.kind:
                case "directory":
                    self._add("d", found.name, b"")
                case "link":
                    self._check_link(found)
                    self._add("l", found.name, os.fsencode(found.link))
                case "file":
                    assert content is not None, "a file comes open"
                    while content.read(BLOCK):
                        pass
                    self._add("x" if executable else "f", found.name, content.digest.digest())
                case "other":
                    raise EngineError(
                        f"{self._place(found.name)} is neither a file, a directory nor a symlink",
                        hint="remove it, or ignore it",
                    )

    def key(self) -> str:
        """The key of what was taken in so far."""
        return self._digest.hexdigest()[:KEY_LENGTH]

    def _add(self, kind: str, name: str, content: bytes) -> None:
        self._digest.update(record(kind, name, content))

    def _check_link(self, found: Found) -> None:
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(found.name), found.link))
        if not found.name or found.link.startswith("/") or inside.split("/")[0] == "..":
            raise EngineError(
                f"{self._place(found.name)} is a symlink out of {self._shown}",
                details=f"it points to {found.link}",
                hint="only what is inside the directory is copied: replace the link by its target, or ignore it",
            )

    def _place(self, name: str) -> str:
        return posixpath.normpath(posixpath.join(self._shown, name))


def record(kind: str, name: str, content: bytes) -> bytes:
    """A record of one entry; lengths first, so that no two trees give the same bytes."""
    encoded = os.fsencode(name)
    return f"{kind} {len(encoded)} {len(content)}\n".encode() + encoded + content


class _Hashed:
    """A file that remembers what was read of it."""

    def __init__(self, content: Readable) -> None:
        self._content = content
        self.digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._content.read(size)
        self.digest.update(data)
        return data
