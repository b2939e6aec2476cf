"""The values of `${VAR}`: from the user's environment, else from the project's `.env`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandboxfile.diagnostics import Diagnostic, quote
from sandboxfile.positions import Position
from sandboxfile.reading.interpolate import BadInterpolation, interpolate
from sandboxfile.reading.regular_file import LeadsOutError, read_within
from sandboxfile.reading.utf8 import NotUtf8, decode

FILE_NAME = ".env"
PROJECT_NAME = "COMPOSE_PROJECT_NAME"
MAX_BYTES = 256 * 1024


class Variables:
    """The variables that a file may read. `read` maps each one that it has read to the source of its value.

    As in Compose, COMPOSE_PROJECT_NAME is the project's name, as soon as that is known.

    `.env` is read when a variable is looked up that the environment does not have; `text` is its content then. Links to
    it must not lead out of the project: a link in a repository could lead to the user's own files. A directory of that
    name, such as a virtual environment of Python, is passed by.
    """

    def __init__(self, environment: Mapping[str, str], project: Path) -> None:
        self._environment = environment
        self._project = project
        self._names: tuple[str, ...] = (FILE_NAME,)
        self._above: Variables | None = None
        self._file: dict[str, str] | None = None
        self._labels: dict[str, str] = {}  # the file that each variable is from
        self._behind: dict[str, tuple[str, ...]] = {}
        self._empty: dict[str, Diagnostic] = {}  # warnings about values, for those that are used
        self.project_name: str | None = None  # the value of COMPOSE_PROJECT_NAME, whatever else says
        self.read: dict[str, str] = {}
        self.problems: list[Diagnostic] = []
        self.unreadable: list[Diagnostic] = []  # problems of whole files, of which others would only be consequences
        self.warnings: list[Diagnostic] = []
        self.text = b""

    def below(self, names: tuple[str, ...]) -> Variables:
        """The variables of an included file: these, and for the names that they lack those of the files `names`."""
        inner = Variables(self._environment, self._project)
        inner._names, inner._above = names, self
        inner.read, inner.problems, inner.warnings = self.read, self.problems, self.warnings
        inner.unreadable = self.unreadable
        return inner

    @property
    def names(self) -> tuple[str, ...]:
        """The files that these variables are from, those of the files around this one first."""
        return (*(self._above.names if self._above is not None else ()), *self._names)

    def look_up(self, name: str) -> str | None:
        """The value of the variable; None when it is not set."""
        if name == PROJECT_NAME and self.project_name is not None:
            return self.project_name
        if self._above is not None and (value := self._above.look_up(name)) is not None:
            return value
        if (value := self._environment.get(name)) is not None:
            self.read[name] = "environment"
            return value
        if (value := self._from_files().get(name)) is not None:
            self.read[name] = self._labels[name]
            if (empty := self._empty.pop(name, None)) is not None:
                self.warnings.append(empty)
            for other in self._behind.get(name, ()):
                source = "environment" if other in self._environment else self._labels.get(other, self._labels[name])
                self.read.setdefault(other, source)
        return value

    def behind(self, name: str) -> tuple[str, ...]:
        """The variables whose values are part of the value of `name`: those that its line in `.env` names."""
        if self._above is not None and (behind := self._above.behind(name)):
            return behind
        return () if name in self._environment else self._behind.get(name, ())

    def _from_files(self) -> dict[str, str]:
        if self._file is None:
            self._file = {}
            for name in self._names:
                path = self._project / name
                if path.exists() and not path.is_dir():  # a link whose target does not exist counts as no file
                    self._read_file(path, name)
        return self._file

    def _read_file(self, path: Path, label: str) -> None:
        try:
            raw = self.text = read_within(self._project, path, MAX_BYTES)
            if len(raw) > MAX_BYTES:
                raise OSError(f"it is larger than {MAX_BYTES // 1024} KiB")
            text = decode(raw)
            if "\0" in text:
                raise OSError("it contains a null byte")
        except OSError as error:
            reason = getattr(error, "strerror", None) or str(error)
            hint = "copy it into the project" if isinstance(error, LeadsOutError) else None
            self.unreadable.append(Diagnostic(None, (), f"cannot be used: {reason}", hint, label))
            return
        except NotUtf8 as error:  # without its line, which may hold a secret
            self.unreadable.append(Diagnostic(error.position, (), error.message, error.hint, label))
            return
        from dotenv.parser import parse_stream  # here, since it takes 5 ms and most projects have no such file

        for binding in parse_stream(io.StringIO(text)):
            self._add(binding, label)

    def _add(self, binding: Any, label: str) -> None:
        assert self._file is not None
        line = binding.original.line
        if binding.error:
            shown = quote(binding.original.string.strip().split("=")[0])  # the text after the = may be a secret
            self._complain(line, f"this line is no NAME=value: {shown}", None, label)
        elif binding.key is not None and binding.value is not None:
            self._empty.pop(binding.key, None)
            self._file[binding.key] = self._value(binding, line, label)
            self._labels[binding.key] = label

    def _value(self, binding: Any, line: int, label: str) -> str:
        written = binding.original.string.partition("=")[2].strip()
        if "$" not in binding.value or written.startswith("'"):
            return str(binding.value)
        before = self._file or {}
        try:
            result = interpolate(binding.value, lambda name: self._set_before(name, before))
        except BadInterpolation as error:
            self._complain(line, f"{binding.key}: {error.message}", error.hint, label)
            return ""
        if result.unset:  # named by its line alone: the text around it may be a secret
            message = f"{binding.key}: the variable {result.unset[0]} is not set: an empty text takes its place"
            hint = "a dollar sign in a value is written in single quotes, or as $$"
            self._empty[binding.key] = Diagnostic(Position(line, 1), (), message, hint, label, severity="warning")
        names = [other for name in result.names for other in (name, *self.behind(name))]
        self._behind[binding.key] = tuple(dict.fromkeys(names))
        return result.text

    def _set_before(self, name: str, before: Mapping[str, str]) -> str | None:
        above = self._above.look_up(name) if self._above is not None else self._environment.get(name)
        return before.get(name) if above is None else above

    def _complain(self, line: int, message: str, hint: str | None, label: str) -> None:
        self.problems.append(Diagnostic(Position(line, 1), (), message, hint, label))
