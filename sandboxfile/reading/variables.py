"""The values of `${VAR}`: from the user's environment, else from the project's `.env`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandboxfile.diagnostics import Diagnostic, quote
from sandboxfile.positions import Position
from sandboxfile.reading.interpolate import BadInterpolation, interpolate
from sandboxfile.reading.regular_file import read_within

FILE_NAME = ".env"
MAX_BYTES = 256 * 1024


class Variables:
    """The variables that a file may read. `read` maps each one that it has read to the source of its value.

    `.env` is read when a variable is looked up that the environment does not have; `text` is its content then. Links to
    it must not lead out of the project: a link in a repository could lead to the user's own files.
    """

    def __init__(self, environment: Mapping[str, str], project: Path) -> None:
        self._environment = environment
        self._project = project
        self._file: dict[str, str] | None = None
        self._behind: dict[str, tuple[str, ...]] = {}
        self.read: dict[str, str] = {}
        self.problems: list[Diagnostic] = []
        self.text = b""

    def look_up(self, name: str) -> str | None:
        """The value of the variable; None when it is not set."""
        if (value := self._environment.get(name)) is not None:
            self.read[name] = "environment"
            return value
        if (value := self._from_file().get(name)) is not None:
            self.read[name] = FILE_NAME
            for other in self._behind.get(name, ()):
                self.read.setdefault(other, "environment" if other in self._environment else FILE_NAME)
        return value

    def behind(self, name: str) -> tuple[str, ...]:
        """The variables whose values are part of the value of `name`: those that its line in `.env` names."""
        return () if name in self._environment else self._behind.get(name, ())

    def _from_file(self) -> dict[str, str]:
        if self._file is None:
            self._file = {}
            path = self._project / FILE_NAME
            if path.exists():  # a link whose target does not exist counts as no file
                self._read_file(path)
        return self._file

    def _read_file(self, path: Path) -> None:
        try:
            raw = self.text = read_within(self._project, path, MAX_BYTES)
            if len(raw) > MAX_BYTES:
                raise OSError(f"it is larger than {MAX_BYTES // 1024} KiB")
            text = raw.decode("utf-8")
            if "\0" in text:
                raise OSError("it contains a null byte")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.problems.append(Diagnostic(None, (), f"cannot be used: {reason}", file=FILE_NAME))
            return
        from dotenv.parser import parse_stream  # here, since it takes 5 ms and most projects have no such file

        for binding in parse_stream(io.StringIO(text)):
            self._add(binding)

    def _add(self, binding: Any) -> None:
        assert self._file is not None
        line = binding.original.line
        if binding.error:
            shown = quote(binding.original.string.strip().split("=")[0])  # the text after the = may be a secret
            self._complain(line, f"this line is no NAME=value: {shown}", None)
        elif binding.key is not None and binding.value is not None:
            self._file[binding.key] = self._value(binding, line)

    def _value(self, binding: Any, line: int) -> str:
        written = binding.original.string.partition("=")[2].strip()
        if "$" not in binding.value or written.startswith("'"):
            return str(binding.value)
        before = self._file or {}
        try:
            result = interpolate(binding.value, lambda name: self._environment.get(name, before.get(name)))
        except BadInterpolation as error:
            self._complain(line, f"{binding.key}: {error.message}", error.hint)
            return ""
        names = [other for name in result.names for other in (name, *self.behind(name))]
        self._behind[binding.key] = tuple(dict.fromkeys(names))
        return result.text

    def _complain(self, line: int, message: str, hint: str | None) -> None:
        self.problems.append(Diagnostic(Position(line, 1), (), message, hint, FILE_NAME))
