"""`services: {include: compose.yaml}`: laying a file's services over those of Compose files of the project."""

from __future__ import annotations

import posixpath
from typing import Any, NamedTuple

from sandboxfile.compose.extends import KEY as EXTENDS
from sandboxfile.compose.extends import Extensions
from sandboxfile.compose.files import ComposeFiles
from sandboxfile.compose.secrets import secrets_to_configs
from sandboxfile.diagnostics import Problem, one_of, quote
from sandboxfile.names import SECTIONS
from sandboxfile.reading.document import Document, Placed, place
from sandboxfile.reading.layers import lay_over
from sandboxfile.reading.source import Source
from sandboxfile.reading.variables import FILE_NAME as ENV_FILE
from sandboxfile.reading.variables import Variables

KEY = "include"
_KEYS = ("path", "env_file", "project_directory")
_IGNORED = ("version", "name", "include", "secrets")


class _Around(NamedTuple):
    """The file that includes: where its paths start, its variables (None: the project's), and the files above it."""

    directory: str
    variables: Variables | None
    above: tuple[str, ...]


class Includes:
    """Lays a document over the Compose files that it includes, and its services over those that they extend.

    `files` reads the Compose files.
    """

    def __init__(self, files: ComposeFiles) -> None:
        self._files = files
        self._extensions = Extensions(files)

    def resolve(self, document: Document) -> Document:
        """The document laid over what it includes and extends."""
        services = document.data.get("services") if isinstance(document.data, dict) else None
        if not isinstance(services, dict):
            return document
        include = services.get(KEY)
        includes = include is not None and not _is_service(include)
        if not includes and not any(isinstance(item, dict) and EXTENDS in item for item in services.values()):
            return document
        tree = document.tree()
        section = tree.value["services"]
        base = self._included(section.value[KEY]) if includes else None
        own = {name: item for name, item in section.value.items() if not (includes and name == KEY)}
        extended = self._extensions.resolve(Placed(own, section.source, section.path))
        over = Placed({**tree.value, "services": extended}, tree.source, tree.path)
        return Document.of(lay_over(base, over) if base is not None else over, document.main)

    def _included(self, entries: Placed) -> Placed | None:
        if entries.value == []:
            self._files.complain(entries, "names no file", "such as include: compose.yaml")
        base: Placed | None = None
        for item in entries.value if isinstance(entries.value, list) else [entries]:
            included = self._read(item, _Around("", None, ()))
            base = included if base is None else base if included is None else lay_over(base, included)
        return base

    def _read(self, item: Placed, around: _Around) -> Placed | None:
        """The sections of the Compose files that `item` names."""
        paths = _paths(item)
        if paths is None:
            self._files.complain(
                item, "must be the path of a Compose file, or a list of them", "such as include: compose.yaml"
            )
            return None
        inner = self._inner(item, posixpath.normpath(posixpath.join(around.directory, paths[0])), around)
        merged: Placed | None = None
        for text in paths if inner is not None else ():
            sections = self._file(item, posixpath.normpath(posixpath.join(around.directory, text)), inner or around)
            merged = sections if merged is None else merged if sections is None else lay_over(merged, sections)
        return merged

    def _inner(self, item: Placed, first: str, around: _Around) -> _Around | None:
        """Where the paths of included files start, and their variables; None where the entry cannot be read."""
        directory, names = posixpath.dirname(first), None
        if isinstance(item.value, dict):
            for key in item.value:
                if key not in _KEYS:
                    self._files.complain(item.value[key], "unknown key", f"the keys are {one_of(_KEYS)}")
                    return None
            if (place := item.value.get("project_directory")) is not None:
                if not isinstance(place.value, str):
                    self._files.complain(place, "must be the path of a directory")
                    return None
                directory = posixpath.normpath(posixpath.join(around.directory, place.value))
                directory = "" if directory == "." else directory
            if (place := item.value.get("env_file")) is not None:
                names = self._env_files(place, around)
                if names is None:
                    return None
        if names is None:  # as with Compose, the file beside it counts where none is named
            names = tuple(name for name in [posixpath.join(directory, ENV_FILE)] if self._files.exists(name))
        return _Around(directory, self._files.variables_of(around.variables, names), around.above)

    def _env_files(self, entry: Placed, around: _Around) -> tuple[str, ...] | None:
        names = []
        for item in entry.value if isinstance(entry.value, list) else [entry]:
            if not isinstance(item.value, str) or not item.value:
                self._files.complain(item, "must be the path of a file with variables, or a list of them")
                return None
            name = posixpath.normpath(posixpath.join(around.directory, item.value))
            if not self._files.exists(name):
                reason = "is outside the project" if name.startswith(("/", "..", "~")) else "does not exist"
                self._files.complain(item, f"{quote(name)} {reason}", "the path is relative to the file that names it")
                return None
            names.append(name)
        return tuple(names)

    def _file(self, item: Placed, name: str, around: _Around) -> Placed | None:
        if name in around.above:
            self._files.complain(item, f"{name} includes itself: {' -> '.join([*around.above, name])}")
            return None
        source = self._files.read(item, name, around.directory, around.variables)
        if source is None:
            return None
        return self._sections(source, around._replace(above=(*around.above, name)))

    def _sections(self, source: Source, around: _Around) -> Placed:
        """The sections of a Compose file that a Sandboxfile takes over, with those of the files that it includes."""
        data = source.data
        for key in data:
            if key not in SECTIONS and key not in _IGNORED and not key.startswith("x-"):
                problem = Problem((key,), "is not a section that a sandbox can take over", None, True)
                if (diagnostic := source.diagnose(problem)) not in source.problems:
                    source.problems.append(diagnostic)
        taken = (*SECTIONS, "secrets")
        tree = place({key: value for key, value in data.items() if key in taken and isinstance(value, dict)}, source)
        if "services" in tree.value:
            tree.value["services"] = self._extensions.resolve(tree.value["services"])
        sections = secrets_to_configs(tree)
        inner = data.get(KEY)
        for item in place(inner, source, (KEY,)).value if isinstance(inner, list) else [] if inner is None else [inner]:
            entry = item if isinstance(item, Placed) else place(item, source, (KEY,))
            below = self._read(entry, around)
            sections = sections if below is None else lay_over(below, sections)
        return sections


def _is_service(value: Any) -> bool:
    """Whether the value of `include` is a service that happens to have this name."""
    return isinstance(value, dict) and "path" not in value


def _paths(item: Placed) -> list[str] | None:
    value = item.value
    if isinstance(value, dict):
        inner = value.get("path")
        return _paths(inner) if isinstance(inner, Placed) else None
    if isinstance(value, list):
        texts = [entry.value for entry in value]
        return texts if texts and all(isinstance(text, str) and text for text in texts) else None
    return [value] if isinstance(value, str) and value else None
