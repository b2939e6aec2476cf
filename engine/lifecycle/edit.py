"""Changing a file for `add`: choosing the file, checking it with the change, and writing it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.lifecycle.project_file import locate, name_file

if TYPE_CHECKING:
    from sandboxfile import Diagnostic, Loaded
    from sandboxfile.writing.additions import Addition, AddResult


@dataclass(frozen=True)
class Edit:
    """The result of a change of the text `before`. `warnings` are the warnings about what was added."""

    before: str
    outcome: AddResult
    warnings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Edited:
    """The file to change.

    `file` is the file that is written. `main` is the Sandboxfile: either `file` itself, or the one that `file` lies
    over. `before` is the content of `file`, None when it does not exist yet.
    """

    file: Path
    main: Path
    before: bytes | None

    @classmethod
    def choose(cls, path: Path | None) -> Edited:
        """The file at `path`, or the nearest Sandboxfile upwards.

        Raises EngineError (exit code 2) when there is none, and SandboxfileError when it cannot be read.
        """
        if path is None or path.is_dir():
            main = locate(path)
            return cls(main, main, _read(main))
        file = path.parent.resolve() / path.name
        if (over := _local_of(file)) is not None:
            return cls(file, over, _read(file) if os.path.lexists(file) else None)
        if not path.exists():
            raise EngineError(f"{path} does not exist", hint="`sandbox init` writes a first Sandboxfile", exit_code=2)
        before = _read(file)
        return cls(file, file if _is_whole(before) else locate(None), before)

    @property
    def label(self) -> str:
        return os.path.relpath(self.file)

    def add(self, additions: Sequence[Addition], *, write: bool = True) -> Edit:
        """Add to the file what it does not have yet; with `write` False, only compute the result.

        Raises SandboxfileError, and leaves the file alone, when it would not be valid afterwards.
        """
        from engine.files import rewrite
        from sandboxfile.writing.additions import add_to

        text = _decode(self.before or b"", self.file.name)
        outcome = add_to(text, additions, self.label)
        if not outcome.added:
            return Edit(text, outcome)
        loaded = self._check(outcome)
        if write:
            rewrite(self.file, self.before, outcome.text.encode())
        places = [(self.file.name, entry.path) for entry in outcome.added]
        new_warnings = [
            warning
            for warning in loaded.warnings
            if any((warning.file, warning.path[: len(at)]) == (file, at) for file, at in places)
        ]
        return Edit(text, outcome, tuple(new_warnings))

    def _check(self, outcome: AddResult) -> Loaded:
        """Load the Sandboxfile as it would be after the change, with everything that lies over it."""
        from sandboxfile import Inputs, SandboxfileError, load

        layers = () if self.file in (self.main, _local(self.main)) else (self.file,)
        inputs = Inputs(layers, environment=os.environ, texts={self.file: outcome.text})
        try:
            return load(self.main, inputs)
        except SandboxfileError as error:
            raise SandboxfileError(name_file(error.diagnostics, self.main)) from None


def _local(main: Path) -> Path:
    return main.with_suffix(f".local{main.suffix}")


def _local_of(file: Path) -> Path | None:
    """The Sandboxfile whose local layer is called `file`; None when `file` is no name of a local layer."""
    main = file.with_name(file.name.replace(".local", ""))
    return main if main != file and _local(main) == file and main.is_file() else None


def _is_whole(text: bytes) -> bool:
    """Whether `text` is a Sandboxfile of its own. One has a version, and a layer need not have one."""
    from sandboxfile.reading.source import read_source

    data = read_source(text, "").data
    return not isinstance(data, dict) or "version" in data


def _read(path: Path) -> bytes:
    """The content of the file. Raises SandboxfileError.

    A link that leads out of the file's directory is not followed: its target would be shown, and overwritten.
    """
    from sandboxfile import Diagnostic, SandboxfileError
    from sandboxfile.reading.regular_file import read_within
    from sandboxfile.reading.source import MAX_BYTES

    try:
        return read_within(path.parent, path, MAX_BYTES)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise SandboxfileError([Diagnostic(None, (), reason, file=os.path.relpath(path))]) from None


def _decode(text: bytes, name: str) -> str:
    from sandboxfile import SandboxfileError
    from sandboxfile.reading.source import read_source

    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise SandboxfileError(read_source(text, name).problems) from None


def is_up() -> bool:
    """Whether a sandbox of this project runs, so that `up` can change it.

    A dead, failed or stopped one does not run.
    """
    from engine.lifecycle.selection import of_project, open_layout

    try:
        return any(listed.liveness == "running" for listed in of_project(open_layout()))
    except (EngineError, OSError):
        return False
