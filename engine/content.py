"""Keys: what a node is made of, as one short name that changes exactly when the content does."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from engine.errors import EngineError

KEY_LENGTH = 32  # hex digits, 128 bits: collisions by accident are out of question, and paths stay short
DOCKERIGNORE = ".dockerignore"

# (path relative to the root, with "/"; together with everything below it) -> leave it out. For a directory it is asked
# both ways: one that is left out itself, but perhaps not all that is in it, counts when something in it does.
Ignore = Callable[[str, bool], bool]


def content_key(*parts: object, **inputs: object) -> str:
    """The key of JSON-like values (str, int, float, bool, None, list, tuple, mapping with str keys).

    Raises TypeError for anything else: an object's repr would give a key that changes with every run.
    """
    text = json.dumps([parts, inputs], sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def hash_tree(path: Path, ignore: Ignore | Sequence[str] | None = None) -> str:
    """The key of a file or of everything below a directory: names, x bits, symlink targets, contents.

    `ignore` leaves out: a function, or the lines of a .dockerignore (`read_dockerignore`). Empty directories count.
    Times, owners and other mode bits do not. Raises EngineError for what cannot be copied elsewhere (sockets, devices),
    for a symlink that leaves the directory, and for what cannot be read.
    """
    leave_out = ignore if callable(ignore) else match_dockerignore(ignore or ())
    digest = hashlib.sha256()
    try:
        for name, entry in _walk(path, leave_out):
            digest.update(_describe(name, entry, path))
    except OSError as error:
        raise EngineError(f"cannot read {error.filename}: {error.strerror}") from error
    return digest.hexdigest()[:KEY_LENGTH]


def list_tree(path: Path, ignore: Ignore | Sequence[str] | None = None) -> list[str]:
    """The relative names that `hash_tree` takes in, sorted, parents before children; what a copy must contain."""
    leave_out = ignore if callable(ignore) else match_dockerignore(ignore or ())
    return [name for name, _ in _walk(path, leave_out) if name]


def read_dockerignore(context: Path) -> list[str]:
    """The lines of the build context's .dockerignore, none when there is no such file."""
    try:
        return (context / DOCKERIGNORE).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise EngineError(f"cannot read {context / DOCKERIGNORE}", details=str(error)) from error


def match_dockerignore(lines: Sequence[str], keep: Sequence[str] = (DOCKERIGNORE, "Dockerfile")) -> Ignore:
    """Docker's rules: patterns are anchored at the root, the last one that matches decides, `!` takes back in.

    `keep` is never left out, as in Docker: a build needs its Dockerfile even where the context does not. A directory is
    left out as a whole unless a `!` pattern could take something below it back in.
    """
    patterns = [pattern for line in lines if (pattern := _anchored(line))]
    if not patterns:
        return lambda name, directory: False
    from pathspec import PathSpec  # 40 ms, and most trees have no such file

    patterns += [_anchored(f"!{name}") for name in keep]
    # Docker lets a pattern match any parent directory too; in gitignore "*" says nothing about what is deeper.
    spec = PathSpec.from_lines("gitignore", [line for pattern in patterns for line in (pattern, f"{pattern}/**")])
    taken_back = [re.split(r"[*?\[\\]", pattern[2:], maxsplit=1)[0] for pattern in patterns if pattern[0] == "!"]

    def leave_out(name: str, with_all_below: bool) -> bool:
        below = f"{name}/"
        if with_all_below and any(prefix.startswith(below) or below.startswith(prefix) for prefix in taken_back):
            return False
        return spec.match_file(name)

    return leave_out


def _anchored(line: str) -> str:
    """One .dockerignore line as an anchored gitignore pattern; "" for a line without one."""
    line = line.strip()
    if not line or line.startswith("#"):
        return ""
    negation, line = ("!", line[1:].strip()) if line.startswith("!") else ("", line)
    cleaned = os.path.normpath(line).lstrip("/")
    return "" if cleaned in (".", "") else f"{negation}/{cleaned}"


def _walk(root: Path, leave_out: Ignore) -> Iterator[tuple[str, Path]]:
    """(name relative to root with "/", path), the root first, each directory's names in byte order."""
    pending = [("", root)]
    held: list[tuple[str, Path]] = []  # directories that only count when something in them does
    while pending:
        name, path = pending.pop()
        directory = path.is_dir() and not (name and path.is_symlink())
        held = [(parent, place) for parent, place in held if name.startswith(f"{parent}/")]
        if name and leave_out(name, False):
            if not directory:
                continue
            held.append((name, path))
        else:
            yield from held
            held = []
            yield name, path
        if directory:
            children = sorted(path.iterdir(), key=lambda child: os.fsencode(child.name), reverse=True)
            relative = [(f"{name}/{child.name}" if name else child.name, child) for child in children]
            pending.extend((inside, child) for inside, child in relative if not leave_out(inside, True))


def _describe(name: str, path: Path, root: Path) -> bytes:
    """A record of one entry; lengths first, so that no two trees give the same bytes."""
    mode = (path.stat() if not name else path.lstat()).st_mode
    if stat.S_ISDIR(mode):
        return _record("d", name, b"")
    if stat.S_ISLNK(mode):
        target = path.readlink()
        inside = Path(os.path.normpath(root / Path(name).parent / target))
        if target.is_absolute() or not inside.is_relative_to(os.path.normpath(root)):
            raise EngineError(
                f"{path} is a symlink out of {root}",
                details=f"it points to {target}",
                hint="only what is inside the directory is copied: replace the link by its target, or ignore it",
            )
        return _record("l", name, os.fsencode(target))
    if stat.S_ISREG(mode):
        with path.open("rb") as file:
            return _record("x" if mode & 0o111 else "f", name, hashlib.file_digest(file, "sha256").digest())
    raise EngineError(f"{path} is neither a file, a directory nor a symlink", hint="remove it, or ignore it")


def _record(kind: str, name: str, content: bytes) -> bytes:
    encoded = os.fsencode(name)
    return f"{kind} {len(encoded)} {len(content)}\n".encode() + encoded + content
