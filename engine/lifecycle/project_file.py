"""Which Sandboxfile a command means."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.files import check_relative, here, what_else

if TYPE_CHECKING:
    from sandboxfile import Diagnostic, Loaded

_NEARLY = re.compile(r"\.?sand-?_?box[-_.]?(file)?(\.(ya?ml|json|toml))?", re.IGNORECASE)
_FIRST_ONE = "`sandbox init` writes a first one"


def load_file(path: Path | None, files: Sequence[Path] = (), assignments: Sequence[str] = ()) -> Loaded:
    """Load and check a file. `path` is a directory or a file; None is the nearest Sandboxfile upwards.

    `files` and `assignments` lie over it. Raises EngineError (exit code 2) when there is no file, SandboxfileError for
    its problems.
    """
    from sandboxfile import Inputs, SandboxfileError, load

    file = locate(path)
    try:
        return load(file, Inputs(tuple(files), tuple(assignments), os.environ))
    except SandboxfileError as error:
        raise SandboxfileError(name_file(error.diagnostics, file)) from None


def locate(path: Path | None) -> Path:
    """The absolute path of the file that `path` means. The directory is free of links, since it identifies the project.

    Raises EngineError (exit code 2) when there is no file, when it is something else than a file, and when a directory
    has two and neither is named.
    """
    with _permitted():
        file = _locate(path)
    if (other := what_else(file)) is not None:
        raise EngineError(f"{file} is {other}", hint="remove it, or name another file", exit_code=2)
    return file.parent.resolve() / file.name


def is_there_one() -> bool:
    """Whether this directory or one above it has a file. Raises EngineError (exit code 2) where one may not look."""
    from sandboxfile import find

    with _permitted():
        return find(here()) is not None


@contextlib.contextmanager
def _permitted() -> Iterator[None]:
    """A directory that may not be entered is an error like a file that may not be read, with the same exit code."""
    try:
        yield
    except PermissionError as error:
        raise EngineError(f"{error.filename} cannot be read: {error.strerror}", exit_code=2) from None


def _locate(path: Path | None) -> Path:
    from sandboxfile import find
    from sandboxfile.load import find_in

    if path is None:
        file, where = _only(find(here())), f"in {here()} or any directory above it"
    elif path.is_dir():
        file, where = _only(find_in(path)), f"in {path}"
    elif path.exists() or path.is_symlink():
        file, where = path, ""
    else:
        check_relative(path)
        hint = "PATH is a directory or a file"
        if path.name == str(path) and not path.suffix:  # as Compose would have it: `sandbox up db`
            hint += "; a service of the file is no PATH, and --profile chooses some"
        raise EngineError(f"{path} does not exist", hint=hint, exit_code=2)
    if file is None:
        hint = _misspelt(path or here()) or _FIRST_ONE
        raise EngineError(f"there is no Sandboxfile.yaml {where}", hint=hint, exit_code=2)
    return file


def _misspelt(directory: Path) -> str | None:
    """What to do about a file in the directory whose name is nearly that of a Sandboxfile."""
    from sandboxfile.load import FILE_NAMES

    try:
        names = sorted(path.name for path in directory.iterdir() if _NEARLY.fullmatch(path.name) and path.is_file())
    except OSError:
        return None
    return f"there is {names[0]}: rename it to {FILE_NAMES[0]}, or name it here" if names else None


def _only(file: Path | None) -> Path | None:
    """The file itself. Raises EngineError when its directory has another one under the other name.

    A guest that can write in the directory could have made the other one, to be taken instead.
    """
    from sandboxfile.load import FILE_NAMES

    if file is not None and all(os.path.lexists(file.with_name(name)) for name in FILE_NAMES):
        names = " and ".join(FILE_NAMES)
        raise EngineError(f"{file.parent} has {names}", hint="name the one that is meant", exit_code=2)
    return file


def name_file(diagnostics: Iterable[Diagnostic], file: Path) -> list[Diagnostic]:
    """The same problems, with the path of each file relative to the working directory, so that it can be opened."""
    return [dataclasses.replace(diagnostic, file=_from_here(diagnostic.file, file)) for diagnostic in diagnostics]


def _from_here(label: str, file: Path) -> str:
    """Problems name files of the project relative to the project, and those of the command line as they were given."""
    path = file.parent / label
    is_there = label == file.name or (not label.startswith("-") and path.is_file())
    return os.path.relpath(path) if is_there else label
