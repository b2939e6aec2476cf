"""Which Sandboxfile a command means when it is not told."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from sandboxfile import Diagnostic, Loaded

_FIRST_ONE = "`sandbox init` writes a first one"


def load_file(path: Path | None, files: Sequence[Path] = (), assignments: Sequence[str] = ()) -> Loaded:
    """The checked file: `path` is a directory or a file, default the nearest one upwards; the rest lies over it.

    Raises EngineError (exit code 2) when there is none, SandboxfileError for its problems.
    """
    from sandboxfile import Inputs, SandboxfileError, load

    file = locate(path)
    try:
        return load(file, Inputs(tuple(files), tuple(assignments), os.environ))
    except SandboxfileError as error:
        raise SandboxfileError(name_file(error.diagnostics, file)) from None


def locate(path: Path | None) -> Path:
    """The file's absolute path; its directory is a real one, since it identifies the project.

    Raises EngineError (exit code 2) when there is none, or more than one where none is named.
    """
    from sandboxfile import find
    from sandboxfile.load import FILE_NAMES

    if path is None:
        found, where = _only(find(Path.cwd())), f"in {Path.cwd()} or any directory above it"
    elif path.is_dir():
        first = next((path / name for name in FILE_NAMES if (path / name).is_file()), None)
        found, where = _only(first), f"in {path}"
    elif path.exists() or path.is_symlink():
        found, where = path, ""
    else:
        raise EngineError(f"{path} does not exist", hint="PATH is a directory or a file", exit_code=2)
    if found is None:
        raise EngineError(f"there is no Sandboxfile.yaml {where}", hint=_FIRST_ONE, exit_code=2)
    return found.parent.resolve() / found.name


def _only(found: Path | None) -> Path | None:
    """The file that was found: not one of two, since a guest that can write there could have made the other."""
    from sandboxfile.load import FILE_NAMES

    if found is not None and all(os.path.lexists(found.with_name(name)) for name in FILE_NAMES):
        names = " and ".join(FILE_NAMES)
        raise EngineError(f"{found.parent} has {names}", hint="name the one that is meant", exit_code=2)
    return found


def name_file(diagnostics: Iterable[Diagnostic], file: Path) -> list[Diagnostic]:
    """The same problems, with the path of each one's file as one would open it from here."""
    return [dataclasses.replace(diagnostic, file=_from_here(diagnostic.file, file)) for diagnostic in diagnostics]


def _from_here(label: str, file: Path) -> str:
    """Files of the project are known by their paths there, those of the command line as they were given."""
    path = file.parent / label
    is_there = label == file.name or (not label.startswith("-") and path.is_file())
    return os.path.relpath(path) if is_there else label
