"""The file that `add` changes: which one, whether the change is a good one, and writing it."""

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
    """What a change made of the text `before`; `warnings` are those about what was added."""

    before: str
    outcome: AddResult
    warnings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Edited:
    """`file` is what is written, `main` the Sandboxfile that it is, or that it lies over. `before` is None when `file`
    is not there yet."""

    file: Path
    main: Path
    before: bytes | None

    @classmethod
    def choose(cls, path: Path | None) -> Edited:
        """`path`, or the nearest Sandboxfile upwards. Raises EngineError (exit code 2), or SandboxfileError."""
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
        """Change the file, where there is something to change. Raises SandboxfileError: nothing changed."""
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
        news = [w for w in loaded.warnings if any((w.file, w.path[: len(at)]) == (file, at) for file, at in places)]
        return Edit(text, outcome, tuple(news))

    def _check(self, outcome: AddResult) -> Loaded:
        """The whole file as it would be, with everything that lies over it."""
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
    """The Sandboxfile whose local layer `file` is, or would be."""
    main = file.with_name(file.name.replace(".local", ""))
    return main if main != file and _local(main) == file and main.is_file() else None


def _is_whole(text: bytes) -> bool:
    """Whether it is a file of its own: a layer need not say the version."""
    from sandboxfile.reading.source import read_source

    data = read_source(text, "").data
    return not isinstance(data, dict) or "version" in data


def _read(path: Path) -> bytes:
    """A link that leads out of the file's directory is not followed: what it leads to would be shown, and written."""
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
    """Whether a sandbox of this project runs: one that died, failed or was stopped takes nothing over."""
    from engine.lifecycle.selection import of_project, open_layout

    try:
        return any(listed.liveness == "running" for listed in of_project(open_layout()))
    except (EngineError, OSError):
        return False
