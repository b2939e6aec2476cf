"""`services: {include: compose.yaml}`: laying a file's services over those of Compose files of the project."""

from __future__ import annotations

import posixpath
from typing import Any

from sandboxfile.compose.extends import KEY as EXTENDS
from sandboxfile.compose.extends import Extensions
from sandboxfile.compose.files import ComposeFiles
from sandboxfile.compose.secrets import secrets_to_configs
from sandboxfile.diagnostics import Problem
from sandboxfile.names import SECTIONS
from sandboxfile.reading.document import Document, Placed, place
from sandboxfile.reading.layers import lay_over
from sandboxfile.reading.source import Source

KEY = "include"
_IGNORED = ("version", "name", "include", "secrets")


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
            included = self._read(item, "", ())
            base = included if base is None else base if included is None else lay_over(base, included)
        return base

    def _read(self, item: Placed, directory: str, above: tuple[str, ...]) -> Placed | None:
        """The sections of the Compose files that `item` names; their paths are relative to `directory`."""
        paths = _paths(item)
        if paths is None:
            self._files.complain(
                item, "must be the path of a Compose file, or a list of them", "such as include: compose.yaml"
            )
            return None
        merged: Placed | None = None
        for text in paths:
            sections = self._file(item, posixpath.normpath(posixpath.join(directory, text)), above)
            merged = sections if merged is None else merged if sections is None else lay_over(merged, sections)
        return merged

    def _file(self, item: Placed, name: str, above: tuple[str, ...]) -> Placed | None:
        if name in above:
            self._files.complain(item, f"{name} includes itself: {' -> '.join([*above, name])}")
            return None
        source = self._files.read(item, name)
        return None if source is None else self._sections(source, posixpath.dirname(name), (*above, name))

    def _sections(self, source: Source, directory: str, above: tuple[str, ...]) -> Placed:
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
        for item in inner if isinstance(inner, list) else [] if inner is None else [inner]:
            below = self._read(place(item, source, (KEY,)), directory, above)
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
