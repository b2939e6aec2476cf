"""From a file, and the layers over it, to a checked value: read, replace variables, merge layers, check."""

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
from sandboxfile.checks.remaining import check_remaining
from sandboxfile.checks.shape import check_shape
from sandboxfile.compose.files import ComposeFiles
from sandboxfile.compose.include import KEY, Includes
from sandboxfile.compose.judge import check_compose
from sandboxfile.compose.profiles import activate, check_needed, flatten, inactive, select
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
ENV_EXAMPLES = tuple(f".env.{word}" for word in ("example", "sample", "dist", "template", "defaults"))
LOCAL = ".local"  # the local layer is Sandboxfile.local.yaml

_ROUNDS = 4  # how often the file is checked again after texts from variables were read as numbers


@dataclass(frozen=True)
class Inputs:
    """What has an influence on a file besides its own text.

    `files` are laid over it in order, then `assignments` (`machine.memory=8GiB`). `${VAR}` reads `environment`. `texts`
    are used in place of the content of files, for a caller who is about to write these files.
    """

    files: tuple[Path, ...] = ()
    assignments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    texts: Mapping[Path, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Loaded:
    """A checked file: its value, its absolute path, and the directory where its relative paths start.

    `layers` are all Sandboxfiles that were read, the file itself first. `variables` maps each variable that was read to
    the source of its value (`environment` or `.env`). `warnings` keep nobody from using the file. `unnamed` are the
    files that were read although nobody has named them, the local layer and `.env`: absolute path -> content.
    """

    sandbox: Sandbox
    path: Path
    project: Path
    layers: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Diagnostic, ...] = ()
    unnamed: Mapping[Path, bytes] = field(default_factory=dict, repr=False)
    agent_name: str | None = None  # the key in `agents`, for a value from `each`
    members: tuple[Loaded, ...] = field(default=(), repr=False)
    _document: Document = field(repr=False, compare=False, kw_only=True)

    def each(self) -> tuple[Loaded, ...]:
        """One value for each sandbox of the file, in file order: this one alone, unless the file has `agents`."""
        return self.members or (self,)

    def diagnostic(self, path: KeyPath, message: str, hint: str | None = None) -> Diagnostic:
        """A problem of the value at `path`, with its place in the file: for checks outside of this package."""
        return self._document.diagnose(Problem(path, message, hint))

    def document(self) -> Document:
        """The values of all layers together, without defaults, each with the place where it is written."""
        return self._document


def find(start: Path) -> Path | None:
    """The nearest Sandboxfile.yaml (or .yml) in `start` or the directories above it; None when there is none.

    Whatever has the name counts, such as a link that leads nowhere: who has it there does not mean the file of a
    directory above. Raises OSError for a directory that may not be entered.
    """
    start = start.absolute()
    return next(filter(None, map(find_in, (start, *start.parents))), None)


def find_in(directory: Path) -> Path | None:
    """The same of one directory alone."""
    for name in FILE_NAMES:
        try:
            os.lstat(directory / name)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # a path with a null byte raises ValueError
            continue
        return directory / name
    return None


def load(path: Path, inputs: Inputs | None = None) -> Loaded:
    """Read and check the file at `path` and the layers over it.

    Raises SandboxfileError, also when there is no file.
    """
    hint = f"in a project, its name is {FILE_NAMES[0]}"
    return parse(_read(path, _shown(path), inputs or Inputs(), hint, within=path.absolute().parent), path, inputs)


def parse(text: str | bytes, path: Path, inputs: Inputs | None = None) -> Loaded:
    """Check the text of a file with the path `path`, which need not exist. Raises SandboxfileError."""
    return _Reading(path, inputs or Inputs()).load(text)


class _Reading:
    """The reading of one file, with everything that has been found so far."""

    def __init__(self, path: Path, inputs: Inputs) -> None:
        self._path = path
        self._inputs = inputs
        self._project = path.absolute().parent
        self._variables = Variables(inputs.environment, self._project)
        self._sources: list[Source] = []
        self._problems: list[Diagnostic] = []
        self._warnings: list[Diagnostic] = []
        self._unnamed: dict[Path, bytes] = {}
        self._noted: set[object] = set()

    def load(self, text: str | bytes) -> Loaded:
        document, layers = self._lay(text)
        self._stop_without_variables()
        self._variables.project_name = self._project_name(document.data)
        files = ComposeFiles(self._project, self._variables)
        document = Includes(files).resolve(document)
        self._stop_without_variables()
        self._sources += files.sources
        self._problems += [problem for source in self._sources for problem in source.problems]
        self._problems += [*files.problems, *self._variables.problems]
        if any(not source.readable for source in self._sources):
            raise SandboxfileError(dict.fromkeys(self._problems))
        if files.problems:
            self._stop()
        whole_document = flatten(activate(document, self._variables.look_up))
        self._problems += self._variables.problems
        document, sandbox = self._check(whole_document, {"name": default_name(self._project)})
        checked = self._members(whole_document, sandbox)
        self._stop()
        whole = Loaded(
            sandbox,
            self._path.absolute(),
            self._project,
            layers,
            self._variables.read,
            tuple(dict.fromkeys(self._all_warnings())),
            self._all_unnamed(),
            _document=document,
        )
        members = [
            dataclasses.replace(whole, sandbox=member, agent_name=key, _document=part)
            for key, (part, member) in checked.items()
        ]
        return dataclasses.replace(whole, members=tuple(members)) if members else whole

    def _stop_without_variables(self) -> None:
        if self._variables.unreadable:
            raise SandboxfileError(dict.fromkeys(self._variables.unreadable))

    def _lay(self, text: str | bytes) -> tuple[Document, tuple[Path, ...]]:
        """Read all layers; returns them as one document, and their paths."""
        main = self._source(text, _shown(self._path))
        paths = [self._path.absolute()]
        document = Document.of(place(main.data, main), main) if main.tags else Document(main, main.data)
        local = self._local()
        named = [(file.absolute(), str(file), None) for file in self._inputs.files]
        over: list[tuple[Path, str, Path | None]] = []
        # A local layer that the user has named is treated like any other named file.
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

    def _project_name(self, data: Any) -> str | None:
        """The name of the Compose project in the guest. None where each of several agents has one of its own."""
        if not isinstance(data, dict) or data.get("agents"):
            return None
        name = data.get("name", default_name(self._project))
        return name if isinstance(name, str) else None

    def _local(self) -> Path:
        """The path of the local layer. Both endings are read, whatever that of the file itself is."""
        there = [path for path in local_layers(self._path.absolute()) if path in self._inputs.texts or path.exists()]
        if len(there) > 1:
            message = f"stands beside {there[0].name}: only one of the two can be the local layer"
            self._problems.append(Diagnostic(None, (), message, "remove one", there[1].name))
        return there[0] if there else local_layers(self._path.absolute())[0]

    def _all_warnings(self) -> list[Diagnostic]:
        written = [warning for source in self._sources for warning in source.warnings]
        return [*written, *self._variables.warnings, *self._warnings]

    def _all_unnamed(self) -> dict[Path, bytes]:
        env = {self._project / ENV_FILE: self._variables.text} if ENV_FILE in self._variables.read.values() else {}
        return {**self._unnamed, **env}

    def _source(self, text: str | bytes, shown: str) -> Source:
        source = read_source(text, shown)
        if source.readable:
            substitute(source, self._variables)
        self._sources.append(source)
        return source

    def _check(self, document: Document, defaults: Mapping[str, Any]) -> tuple[Document, Sandbox]:
        """The document without inactive services, and its value.

        When it has none, raises SandboxfileError with all problems found so far.
        """
        shape: Sandbox | list[Problem] = []
        problems: list[Problem] = []
        secrets = refuse_secrets(document)
        for _ in range(_ROUNDS):
            shape = check_shape({**defaults, **_without_extensions(document.data)})
            problems = check_compose(document.data) + ([] if isinstance(shape, Sandbox) else shape)
            if not read_as_wanted(document, problems):
                break
        selected = document
        if isinstance(shape, Sandbox) and all(problem.severity == "warning" for problem in problems):
            left_out = inactive(document.data)
            if left_out:
                problems += check_needed(document.data, left_out)
                selected = select(document, left_out)
                shape = check_shape({**defaults, **_without_extensions(selected.data)})
            if isinstance(shape, Sandbox) and all(problem.severity == "warning" for problem in problems):
                problems += check_references(shape)
        else:
            problems += check_remaining({**defaults, **_without_extensions(document.data)}, problems)
        self._note(document, [*secrets, *problems])
        if not isinstance(shape, Sandbox):
            self._stop()
            raise AssertionError("a document without a value has a problem")
        return selected, shape

    def _members(self, document: Document, sandbox: Sandbox) -> dict[str, tuple[Document, Sandbox]]:
        if not sandbox.agents:
            return {}
        self._note(document, name_problems(document.data, sandbox.name))
        self._stop()
        checked = {key: self._check(part, {}) for key, part in split(document, sandbox.name)}
        for part, problem in check_together(checked):
            self._note(part, [problem])
        return checked

    def _note(self, document: Document, problems: Iterable[Problem]) -> None:
        for problem in problems:
            if not document.is_unusable(problem.path):
                diagnostic = _explain_unset(document, problem)
                if diagnostic.position is not None:
                    written = (diagnostic.file, diagnostic.position, diagnostic.message, diagnostic.severity)
                    if written in self._noted:
                        continue  # a value of an anchor is written once, and used in several places
                    self._noted.add(written)
                (self._warnings if diagnostic.severity == "warning" else self._problems).append(diagnostic)

    def _stop(self) -> None:
        if self._problems:
            raise SandboxfileError(_with_example(dict.fromkeys(self._problems), self._project))


def _explain_unset(document: Document, problem: Problem) -> Diagnostic:
    """The problem as a diagnostic; if its value lacks a variable that is not set, the hint says so."""
    source, path = document.locate(problem.path)
    if problem.severity == "error" and (names := source.unset.get(path)):
        hint = f"the variable {names[0]} is not set: set it, or write ${{{names[0]}:-default}}"
        problem = problem._replace(hint=hint)
    return document.diagnose(problem)


def _with_example(problems: Iterable[Diagnostic], project: Path) -> list[Diagnostic]:
    """The problems; where a variable is not set and the project has only an example of .env, the hint names that."""
    example = next((name for name in ENV_EXAMPLES if (project / name).is_file()), None)
    if example is None or os.path.lexists(project / ENV_FILE):
        return list(problems)
    way = f"or begin with: cp {example} {ENV_FILE}"
    return [
        dataclasses.replace(each, hint=f"{each.hint}; {way}")
        if each.hint and ("is not set" in each.message or "is not set" in each.hint)
        else each
        for each in problems
    ]


def local_layers(path: Path) -> tuple[Path, ...]:
    """The paths that the local layer of the file at `path` may have, the usual one first."""
    endings = dict.fromkeys([path.suffix, *(Path(name).suffix for name in FILE_NAMES)])
    return tuple(path.with_suffix(f"{LOCAL}{ending}") for ending in endings)


def default_name(project: Path) -> str:
    """The name of the project's directory as the name of a sandbox: lower case, dashes for all other characters."""
    name = re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-")[:40].strip("-")
    return name or "sandbox"


def _without_extensions(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data without the keys that the model does not know: `x-` keys, which hold anchors, and `services.include`.

    If `services.include` is a mapping, it is a service of that name, and stays.
    """
    data = {key: value for key, value in data.items() if not key.startswith("x-")}
    services = data.get("services")
    if isinstance(services, dict) and KEY in services and not isinstance(services[KEY], dict):
        data["services"] = {name: service for name, service in services.items() if name != KEY}
    return data


def _same(one: Path, other: Path) -> bool:
    """Whether two paths have the same name in the same real directory. A link at that name is not followed."""
    first, second = (Path(os.path.normpath(path)) for path in (one, other))
    return first.name == second.name and os.path.realpath(first.parent) == os.path.realpath(second.parent)


def _read(
    path: Path, shown: str, inputs: Inputs, hint: str | None = None, *, within: Path | None = None
) -> str | bytes:
    """The content of the file, or its text in `inputs`. Raises SandboxfileError.

    A file that nobody has named must lie in the directory `within`. A file that the user has named may be anywhere.
    """
    if (text := inputs.texts.get(path.absolute())) is not None:
        return text
    try:
        return read_regular_file(path, MAX_BYTES) if within is None else read_within(within, path, MAX_BYTES)
    except (OSError, ValueError) as error:  # a path with a null byte raises ValueError
        raise SandboxfileError([Diagnostic(None, (), *_reason(error, hint), shown)]) from None


def _reason(error: OSError | ValueError, hint: str | None) -> tuple[str, str | None]:
    """The message and the hint for a file that cannot be read. They hold nothing of the file's content."""
    if isinstance(error, LeadsOutError):
        return f"was not read: {error}", "keep the file in the project, or name what the link leads to"
    if isinstance(error, FileNotFoundError):
        return "there is no such file", hint
    if isinstance(error, IsADirectoryError):
        return "this is a directory", hint
    return f"cannot be read: {getattr(error, 'strerror', None) or error}", None


def _shown(path: Path) -> str:
    return path.name if path.is_absolute() else str(path)
