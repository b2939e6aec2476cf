"""Changes as people read them: git compares, in a repository that is made for it and has nothing else in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.clones.base import Entry
from engine.clones.changes import Change, Changes
from engine.clones.git import run_git
from engine.errors import EngineError

WIDTH = 100


def compare(changes: Changes, chosen: Iterable[Change], *, summary: bool = False) -> str:
    """The unified diff of the chosen changes, as `git apply` takes it, or with `summary` a line for each.

    Raises EngineError, also where this host has no git.
    """
    with tempfile.TemporaryDirectory(prefix="diff-", dir=changes.blobs) as directory:
        place = Path(directory)
        run_git(["init", "--quiet", "--bare", "."], place, own=True)
        run_git(["fast-import", "--quiet"], place, own=True, stdin=b"".join(_import(changes, list(chosen))))
        how = [f"--stat={WIDTH}"] if summary else ["--patch", "--binary"]
        options = ["--no-color", "--no-ext-diff", "--no-textconv", "--find-renames", *how]
        return run_git(["diff", *options, "before", "after"], place, own=True).stdout.decode(errors="surrogateescape")


def merge(base: bytes, ours: bytes, theirs: bytes, scratch: Path) -> bytes | None:
    """The three-way merge of texts; None where both have changed the same lines, or where one is no text.

    It needs a directory in `scratch`, for a moment.
    """
    if any(b"\0" in content for content in (base, ours, theirs)):
        return None
    with tempfile.TemporaryDirectory(prefix="merge-", dir=scratch) as directory:
        names = ("host", "base", "clone")
        for name, content in zip(names, (ours, base, theirs), strict=True):
            (Path(directory) / name).write_bytes(content)
        merged = run_git(["merge-file", "-p", "--quiet", *names], Path(directory), own=True, codes=range(256))
        if merged.returncode > 127:
            raise EngineError("git merge-file failed", details=merged.stderr.decode(errors="replace").strip())
        return merged.stdout if merged.returncode == 0 else None


def _import(changes: Changes, chosen: list[Change]) -> Iterator[bytes]:
    """Two commits in the format of git-fast-import: what was copied, and what is there now."""
    for ref in ("before", "after"):
        yield f"commit refs/heads/{ref}\ncommitter sandbox <sandbox> 0 +0000\ndata 0\n".encode()
        for change in chosen:
            entry = change.before if ref == "before" else change.after
            if entry is not None:
                content = changes.before(change) if ref == "before" else changes.after(change)
                yield b"M %s inline %s\ndata %d\n" % (_mode(entry), _quoted(change.path), len(content))
                yield content
                yield b"\n"


def _mode(entry: Entry) -> bytes:
    return b"120000" if entry.target is not None else b"100755" if entry.executable else b"100644"


def _quoted(path: str) -> bytes:
    escaped = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'
