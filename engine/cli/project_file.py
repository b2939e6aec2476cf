"""Which Sandboxfile a command means when it is not told."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError

if TYPE_CHECKING:
    from sandboxfile import Diagnostic, Loaded

_FIRST_ONE = "a first one: printf 'version: \"1\"\\nmounts: [.:/workspace]\\n' > Sandboxfile.yaml"


def load_file(path: Path | None) -> Loaded:
    """The checked file: `path` is a directory or a file, default the nearest one upwards.

    Raises EngineError (exit code 2) when there is none, SandboxfileError for its problems.
    """
    from sandboxfile import SandboxfileError, load

    file = locate(path)
    try:
        return load(file)
    except SandboxfileError as error:
        raise SandboxfileError(name_file(error.diagnostics, file)) from None


def locate(path: Path | None) -> Path:
    """The file's absolute path; its directory is a real one, since it identifies the project."""
    from sandboxfile import find
    from sandboxfile.load import FILE_NAMES

    if path is None:
        found, where = find(Path.cwd()), f"in {Path.cwd()} or any directory above it"
    elif path.is_dir():
        found, where = next((path / name for name in FILE_NAMES if (path / name).is_file()), None), f"in {path}"
    elif path.exists() or path.is_symlink():
        found, where = path, ""
    else:
        raise EngineError(f"{path} does not exist", hint="PATH is a directory or a file", exit_code=2)
    if found is None:
        raise EngineError(f"there is no Sandboxfile.yaml {where}", hint=_FIRST_ONE, exit_code=2)
    return found.parent.resolve() / found.name


def name_file(diagnostics: tuple[Diagnostic, ...], file: Path) -> list[Diagnostic]:
    """The same problems, with the file's path as one would open it from here."""
    shown = os.path.relpath(file)
    return [dataclasses.replace(diagnostic, file=shown) for diagnostic in diagnostics]
