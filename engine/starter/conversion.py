"""Reading the file of another tool, and what all conversions share."""

from __future__ import annotations

import dataclasses
import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import EngineError
from engine.starter.jsonc import read_jsonc
from engine.starter.proposals import Findings, LeftOut
from sandboxfile import Diagnostic, SandboxfileError
from sandboxfile.positions import KeyPath, render_path
from sandboxfile.reading.interpolate import escape
from sandboxfile.reading.regular_file import read_regular_file
from sandboxfile.reading.source import MAX_BYTES, Source, read_source

HOST_COMMAND = "it runs on this host, and nothing from a file does"


@dataclass
class Conversion:
    """The conversion of one file. Its relative paths start at `directory`, those of the new file at `target`."""

    source: Source
    directory: Path
    target: Path
    found: Findings = field(default_factory=Findings)

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.source.data
        return data

    def leave_out(self, path: KeyPath, reason: str) -> None:
        """Note that the value at `path` is not carried over, and why."""
        position = self.source.positions.of_key(path)
        self.found.left_out.append(LeftOut(render_path(path), reason, position))

    def relative(self, path: str) -> str:
        """A path of the file, relative to the new file's directory; a path outside of that begins with `..`."""
        if path.startswith(("/", "~")):
            return path
        moved = os.path.relpath(self.directory / path, self.target)
        return "." if moved == "." else moved if moved.startswith("..") else f"./{posixpath.normpath(moved)}"

    def inside(self, path: str) -> str | None:
        """A path of the file, relative to the new file's directory; None for a path outside of that."""
        moved = self.relative(path)
        return None if moved.startswith(("/", "~", "..")) else moved.removeprefix("./")


def read_foreign(path: Path) -> Source:
    """Read the file at `path`, which is YAML, or JSON with comments.

    Raises EngineError (exit code 2) when it cannot be read, and SandboxfileError when it is broken.
    """
    try:
        raw = read_regular_file(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it is no file"
        raise EngineError(f"{path} cannot be read: {reason}", exit_code=2) from error
    name = os.path.relpath(path)
    source = (
        read_jsonc(raw.decode("utf-8", "replace"), name)
        if path.suffix == ".json"
        else read_source(raw, name, compose=True)
    )
    if source.problems:
        raise SandboxfileError(in_words_of_any_file(source.problems))
    return source


def in_words_of_any_file(problems: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The problems of a file of another tool, without what the reader says for the sake of a Sandboxfile."""
    # What it says is asked of it: so nothing here is left behind when its words change.
    ours = {read_source(text, "").problems[0].message: message for text, message in _SPOKEN.items()}
    return [
        dataclasses.replace(problem, message=ours[problem.message], hint=None) if problem.message in ours else problem
        for problem in problems
    ]


# A text with a problem -> what is wrong with it in a file of any tool.
_SPOKEN = {
    "": "the file is empty",
    "[]": "the file must be a mapping",
    "{}\n---\n{}\n": "a second document begins here",
}


def literal(value: Any) -> str:
    """A scalar of another file as text for ours. Its dollar signs are escaped, so that they begin no variable."""
    return escape(scalar(value))


def scalar(value: Any) -> str:
    """A scalar as JSON and YAML write it: a truth value in small letters."""
    return str(value).lower() if isinstance(value, bool) else clean(str(value))


def clean(text: str) -> str:
    """The text without lone surrogates, which JSON can write and UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def slug(text: str) -> str:
    """A valid name for a sandbox, made from any text; "" when no character of the text can be used."""
    from sandboxfile.load import default_name

    name = default_name(Path("/", text.replace("/", "-").replace("\0", "") or "."))
    return "" if name == "sandbox" and "sandbox" not in text.lower() else name


def guest_path(text: Any) -> str | None:
    """`text` if it is an absolute path, normalised; None for everything else."""
    return str(PurePosixPath(text)) if isinstance(text, str) and text.startswith("/") and len(text) > 1 else None
