"""A file, and what lies over it, to a checked value: sources, variables, layers, shape, references."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandboxfile.checks.members import check_together, name_problems, split
from sandboxfile.checks.references import check_references
from sandboxfile.checks.shape import check_shape
from sandboxfile.compose.files import ComposeFiles
from sandboxfile.compose.include import KEY, Includes
from sandboxfile.compose.judge import check_compose
from sandboxfile.diagnostics import Diagnostic, Problem, SandboxfileError
from sandboxfile.positions import KeyPath
from sandboxfile.reading.assignments import assign
from sandboxfile.reading.document import Document, place
from sandboxfile.reading.layers import lay_over
from sandboxfile.reading.regular_file import LeadsOutError, read_regular_file, read_within
from sandboxfile.reading.source import MAX_BYTES, Source, read_source
from sandboxfile.reading.substitution import read_as_wanted, refuse_secrets, substitute
from sandboxfile.reading.variables import FILE_NAME as ENV_FILE
from sandboxfile.reading.variables import Variables
from sandboxfile.sections.model import Sandbox

FILE_NAMES = ("Sandboxfile.yaml", "Sandboxfile.yml")
LOCAL = ".local"  # Sandboxfile.local.yaml

_ROUNDS = 4  # of reading values anew after variables were taken for numbers


@dataclass(frozen=True)
class Inputs:
    """What decides, beside the file itself, what it says.

    `files` are laid over it in order, then `assignments` (`machine.memory=8GiB`); `environment` is what `${VAR}` reads.
    `texts` stand for the content of files, for those who are about to write them.
    """

    files: tuple[Path, ...] = ()
    assignments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    texts: Mapping[Path, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Loaded:
    """A checked file: the value, the file's absolute path, and the directory that relative paths start from.

    `layers` are all Sandboxfiles that were read, the file itself first; `variables` says of each variable that was read
    where its value came from (`environment` or `.env`); `warnings` are findings that keep nobody from using the file.
    `unnamed` is the content of what was read without being named, the local layer and `.env`, by its absolute path.
    """

    sandbox: Sandbox
    path: Path
    project: Path
    layers: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Diagnostic, ...] = ()
    unnamed: Mapping[Path, bytes] = field(default_factory=dict, repr=False)
    agent_name: str | None = None  # the key in `agents`, of a value that `each` gave
    members: tuple[Loaded, ...] = field(default=(), repr=False)
    _document: Document = field(repr=False, compare=False, kw_only=True)

    def each(self) -> tuple[Loaded, ...]:
        """One value per sandbox: itself, or with `agents` one for each, in file order."""
        return self.members or (self,)

    def diagnostic(self, path: KeyPath, message: str, hint: str | None = None) -> Diagnostic:
        """A finding about the value at `path`, with its place in the file, for checks that need the world."""
        return self._document.diagnose(Problem(path, message, hint))

    def document(self) -> Document:
        """What was written, all files together, before defaults: for those who ask where a value comes from."""
        return self._document


def find(start: Path) -> Path | None:
    """The nearest Sandboxfile.yaml (or .yml) in `start` or the directories above it, or None."""
    start = start.absolute()
    for directory in (start, *start.parents):
        for name in FILE_NAMES:
            if (candidate := directory / name).is_file():
                return candidate
    return None


def load(path: Path, inputs: Inputs | None = None) -> Loaded:
    """Read and check the file at `path` and what lies over it. Raises SandboxfileError, also when there is no file."""
    hint = f"in a project, its name is {FILE_NAMES[0]}"
    return parse(_read(path, _shown(path), inputs or Inputs(), hint, within=path.absolute().parent), path, inputs)


def parse(text: str | bytes, path: Path, inputs: Inputs | None = None) -> Loaded:
    """Check the text of a file that stands, or would stand, at `path`. Raises SandboxfileError."""
    return _Reading(path, inputs or Inputs()).load(text)


class _Reading:
    """One file on its way to a value."""

    def __init__(self, path: Path, inputs: Inputs) -> None:
        self._path = path
        self._inputs = inputs
        self._project = path.absolute().parent
        self._variables = Variables(inputs.environment, self._project)
        self._sources: list[Source] = []
        self._problems: list[Diagnostic] = []
        self._warnings: list[Diagnostic] = []
        self._unnamed: dict[Path, bytes] = {}

    def load(self, text: str | bytes) -> Loaded:
        document, layers = self._lay(text)
        files = ComposeFiles(self._project, self._variables)
        document = Includes(files).resolve(document)
        self._sources += files.sources
        self._problems += [problem for source in self._sources for problem in source.problems]
        self._problems += [*files.problems, *self._variables.problems]
        if any(not source.readable for source in self._sources):
            raise SandboxfileError(dict.fromkeys(self._problems))
        if files.problems:
            self._stop()
        sandbox = self._check(document, {"name": default_name(self._project)})
        checked = self._members(document, sandbox)
        self._stop()
        whole = Loaded(
            sandbox,
            self._path.absolute(),
            self._project,
            layers,
            self._variables.read,
            tuple(dict.fromkeys([*(w for source in self._sources for w in source.warnings), *self._warnings])),
            self._all_unnamed(),
            _document=document,
        )
        members = [
            dataclasses.replace(whole, sandbox=member, agent_name=key, _document=part)
            for key, (part, member) in checked.items()
        ]
        return dataclasses.replace(whole, members=tuple(members)) if members else whole

    def _lay(self, text: str | bytes) -> tuple[Document, tuple[Path, ...]]:
        """All layers as one document, and their paths."""
        main = self._source(text, _shown(self._path))
        paths = [self._path.absolute()]
        document = Document(main, main.data)
        local = self._path.absolute().with_suffix(f"{LOCAL}{self._path.suffix}")
        named = [(file.absolute(), str(file), None) for file in self._inputs.files]
        over: list[tuple[Path, str, Path | None]] = []
        # Named as well, it is a layer like any other that the user has named.
        if not any(_same(local, path) for path, _, _ in named) and (local in self._inputs.texts or local.exists()):
            over.append((local, local.name, self._project))
        for path, shown, within in [*over, *named]:
            text = _read(path, shown, self._inputs, within=within)
            if within is not None:
                self._unnamed[path] = text if isinstance(text, bytes) else text.encode()
            source = self._source(text, shown)
            paths.append(path)
            if main.readable and source.readable:
                document = Document.of(lay_over(document.tree(), place(source.data, source)), main)
        for assignment in self._inputs.assignments if main.readable else ():
            tree, problems = assign(document.tree(), assignment)
            self._problems += problems
            document = Document.of(tree, main)
        return document, tuple(paths)

    def _all_unnamed(self) -> dict[Path, bytes]:
        env = {self._project / ENV_FILE: self._variables.text} if ENV_FILE in self._variables.read.values() else {}
        return {**self._unnamed, **env}

    def _source(self, text: str | bytes, shown: str) -> Source:
        source = read_source(text, shown)
        if source.readable:
            substitute(source, self._variables)
        self._sources.append(source)
        return source

    def _check(self, document: Document, defaults: Mapping[str, Any]) -> Sandbox:
        """The document's value. Raises SandboxfileError with everything that was found so far when it has none."""
        shape: Sandbox | list[Problem] = []
        problems: list[Problem] = []
        secrets = refuse_secrets(document)
        for _ in range(_ROUNDS):
            shape = check_shape({**defaults, **_without_extensions(document.data)})
            problems = check_compose(document.data) + ([] if isinstance(shape, Sandbox) else shape)
            if not read_as_wanted(document, problems):
                break
        if isinstance(shape, Sandbox) and all(problem.severity == "warning" for problem in problems):
            problems += check_references(shape)
        self._note(document, [*secrets, *problems])
        if not isinstance(shape, Sandbox):
            self._stop()
            raise AssertionError("a document without a value has a problem")
        return shape

    def _members(self, document: Document, sandbox: Sandbox) -> dict[str, tuple[Document, Sandbox]]:
        if not sandbox.agents:
            return {}
        self._note(document, name_problems(document.data, sandbox.name))
        self._stop()
        checked = {key: (part, self._check(part, {})) for key, part in split(document, sandbox.name)}
        for part, problem in check_together(checked):
            self._note(part, [problem])
        return checked

    def _note(self, document: Document, problems: Iterable[Problem]) -> None:
        for problem in problems:
            if not document.is_unusable(problem.path):
                found = document.diagnose(problem)
                (self._warnings if found.severity == "warning" else self._problems).append(found)

    def _stop(self) -> None:
        if self._problems:
            raise SandboxfileError(dict.fromkeys(self._problems))


def default_name(project: Path) -> str:
    """The sandbox's name from its directory: lower case, everything but letters and digits a dash."""
    name = re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-")[:40].strip("-")
    return name or "sandbox"


def _without_extensions(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data without what only the file's writer needs: `x-` keys, which hold anchors, and `services.include` where
    it holds paths. A mapping of that name is a service that happens to be called so, and stays."""
    data = {key: value for key, value in data.items() if not key.startswith("x-")}
    services = data.get("services")
    if isinstance(services, dict) and KEY in services and not isinstance(services[KEY], dict):
        data["services"] = {name: service for name, service in services.items() if name != KEY}
    return data


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one name in one directory; what a link there leads to is another question."""
    first, second = (Path(os.path.normpath(path)) for path in (one, other))
    return first.name == second.name and os.path.realpath(first.parent) == os.path.realpath(second.parent)


def _read(
    path: Path, shown: str, inputs: Inputs, hint: str | None = None, *, within: Path | None = None
) -> str | bytes:
    """`within` is the directory that a file must lie in which nobody has named; what the user names may be anywhere."""
    if (text := inputs.texts.get(path.absolute())) is not None:
        return text
    try:
        return read_regular_file(path, MAX_BYTES) if within is None else read_within(within, path, MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise SandboxfileError([Diagnostic(None, (), *_reason(error, hint), shown)]) from None


def _reason(error: OSError | ValueError, hint: str | None) -> tuple[str, str | None]:
    """What is wrong, and what to do about it. Nothing of a file's content is in it."""
    if isinstance(error, LeadsOutError):
        return f"was not read: {error}", "keep the file in the project, or name what the link leads to"
    if isinstance(error, FileNotFoundError):
        return "there is no such file", hint
    if isinstance(error, IsADirectoryError):
        return "this is a directory", hint
    return f"cannot be read: {getattr(error, 'strerror', None) or error}", None


def _shown(path: Path) -> str:
    return path.name if path.is_absolute() else str(path)
