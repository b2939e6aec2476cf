"""A file to a checked value: source, shape, references."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from .compose import check_compose
from .diagnostics import Diagnostic, Problem, SandboxfileError
from .model import Sandbox
from .positions import KeyPath
from .references import check_references
from .shape import check_shape
from .source import MAX_BYTES, Source, read_source

FILE_NAMES = ("Sandboxfile.yaml", "Sandboxfile.yml")


@dataclass(frozen=True)
class Loaded:
    """A checked file: the value, the file's absolute path, and the directory that relative paths start from."""

    sandbox: Sandbox
    path: Path
    project: Path
    _source: Source = field(repr=False, compare=False)

    def diagnostic(self, path: KeyPath, message: str, hint: str | None = None) -> Diagnostic:
        """A finding about the value at `path`, with its place in the file, for checks that need the world."""
        return self._source.diagnose(Problem(path, message, hint))


def find(start: Path) -> Path | None:
    """The nearest Sandboxfile.yaml (or .yml) in `start` or the directories above it, or None."""
    start = start.absolute()
    for directory in (start, *start.parents):
        for name in FILE_NAMES:
            if (candidate := directory / name).is_file():
                return candidate
    return None


def load(path: Path) -> Loaded:
    """Read and check the file at `path`. Raises SandboxfileError, also when there is no such file."""
    try:
        text = _read(path)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else _reason(error)
        hint = (
            f"in a project, its name is {FILE_NAMES[0]}"
            if isinstance(error, (FileNotFoundError, IsADirectoryError))
            else None
        )
        raise SandboxfileError([Diagnostic(None, (), reason, hint, _shown(path))])
    return parse(text, path)


def parse(text: str | bytes, path: Path) -> Loaded:
    """Check the text of a file that stands, or would stand, at `path`. Raises SandboxfileError."""
    source = read_source(text, _shown(path))
    absolute = path.absolute()
    sandbox = _check(source, absolute.parent)
    return Loaded(sandbox, absolute, absolute.parent, source)


def _check(source: Source, project: Path) -> Sandbox:
    diagnostics = list(source.problems)
    sandbox = None
    if source.readable:
        data = {"name": default_name(project), **source.data}
        shape = check_shape(data, source.positions)
        problems = check_compose(source.data)
        if isinstance(shape, Sandbox):
            sandbox = shape
        else:
            problems += shape
        if sandbox is not None and not problems:
            problems = check_references(sandbox)
        diagnostics += [source.diagnose(problem) for problem in problems if problem.path not in source.unusable]
    if diagnostics or sandbox is None:
        raise SandboxfileError(dict.fromkeys(diagnostics))
    return sandbox


def default_name(project: Path) -> str:
    """The sandbox's name from its directory: lower case, everything but letters and digits a dash."""
    name = re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-")[:40].strip("-")
    return name or "sandbox"


def _read(path: Path) -> bytes:
    # A repository may hold a FIFO or a link to a device under this name: neither may block or fill the memory.
    # Windows has no such flag, and no FIFOs among its files either.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        if not stat.S_ISREG(mode):
            raise OSError("this is not a regular file")
        return file.read(MAX_BYTES + 1)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, IsADirectoryError):
        return "this is a directory"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _shown(path: Path) -> str:
    return path.name if path.is_absolute() else str(path)
