"""Files that are whole or not there, whoever is killed when."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.scarcity import raise_if_scarce


def here() -> Path:
    """The working directory. Raises EngineError where somebody has removed it since this process began there."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        hint = "change to one that exists, such as: cd"
        raise EngineError("the working directory does not exist any more", hint=hint) from None


def check_relative(path: Path) -> None:
    """Raises EngineError as `here` does, for a path that counts from there."""
    if not path.is_absolute():
        here()


def what_else(path: Path) -> str | None:
    """What is at `path` instead of a file, in words; None where there is a file or nothing at all."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return "a link that leads nowhere" if path.is_symlink() else None
    if stat.S_ISDIR(mode):
        return "a directory"
    return None if stat.S_ISREG(mode) else "not a regular file"


def make_private(directory: Path) -> None:
    """Make `directory`, and what is missing above it, so that nobody else can enter them. Raises OSError."""
    for each in reversed((directory, *directory.parents)):
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)


def names_in(directory: Path) -> list[str]:
    """The names in a directory, sorted; none where it is not there or may not be read.

    Raises OSError where there is too little of something to look, which `Path.glob` takes for nothing from Python 3.12
    on.
    """
    try:
        return sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise_if_scarce(error)
        return []


def directories_in(directory: Path) -> list[str]:
    """The same of the directories in it alone: a file browser may have left a file of its own there."""
    return [name for name in names_in(directory) if (directory / name).is_dir()]


def read_json(path: Path) -> Any:
    """Raises OSError, or ValueError when the text is not JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Replace `path` (its directory is made) by a file that only the user can read. Raises OSError."""
    make_private(path.parent)
    replace_private(path, f"{json.dumps(value, indent=1, sort_keys=True)}\n")


def replace_private(path: Path, text: str) -> None:
    """Put a file that only the user can read at `path`, in one step. Raises OSError."""
    with _written_beside(path, text.encode(), mode=0o600) as beside:
        beside.replace(path)


def write_new(path: Path, text: str, *, replace: bool) -> None:
    """Write the file in one step. Raises FileExistsError when there is one and it is not to be replaced, OSError."""
    with _written_beside(path, text.encode()) as beside:
        if replace or not _link(beside, path):
            beside.replace(path)


def rewrite(path: Path, before: bytes | None, after: bytes) -> None:
    """Give a file of the user's, at `path`, new content in one step.

    Permissions stay, and where `path` is a link, it stays one: what it leads to is replaced. `before` is what the
    caller has read, None where there was no file. Raises EngineError when somebody changed it since, and OSError.
    """
    target = path.resolve()
    with _written_beside(target, after, like=target if before is not None else None) as beside:
        # Narrow, but not closed: nothing keeps an editor from writing between this look and the next line.
        if (target.read_bytes() if target.exists() else None) != before:
            raise EngineError(f"{path} was changed meanwhile", hint="do it again: nothing was written")
        beside.replace(target)


@contextlib.contextmanager
def _written_beside(path: Path, content: bytes, *, mode: int = 0o666, like: Path | None = None) -> Iterator[Path]:
    """A new file in the directory of `path`, with the content on the disk; gone afterwards, unless the block moved it.

    Whoever reads `path` sees all of the old or all of the new when the block renames the file. `like` is a file whose
    mode and owner it gets.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with open(beside, "xb", opener=partial(os.open, mode=mode)) as file:
            if like is not None:
                _take_after(file.fileno(), like)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _take_after(descriptor: int, target: Path) -> None:
    """The mode of `target`, and its owner where that is allowed."""
    like = target.stat()
    if hasattr(os, "fchown"):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, like.st_uid, like.st_gid)
        os.fchmod(descriptor, like.st_mode & 0o7777)


def _link(source: Path, path: Path) -> bool:
    """Give the file a second name, which unlike a rename fails when somebody was quicker; False where there are no
    links. Raises FileExistsError."""
    try:
        os.link(source, path)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(path) from None
        return False
    return True
