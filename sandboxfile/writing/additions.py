"""Adding entries to a file, unless they are there already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from sandboxfile.diagnostics import Problem, SandboxfileError
from sandboxfile.positions import KeyPath
from sandboxfile.reading.document import child
from sandboxfile.reading.source import Source, read_source
from sandboxfile.sections.agent import Secret
from sandboxfile.sections.endpoints import Endpoint
from sandboxfile.sections.mounts import Mount
from sandboxfile.sections.ports import Port
from sandboxfile.writing.edit import append, insert

# Sections whose entries are compared as models, so that two ways to write the same entry count as equal.
_MODELS: dict[str, type[BaseModel]] = {"endpoints": Endpoint, "mounts": Mount, "ports": Port, "secrets": Secret}


@dataclass(frozen=True)
class Addition:
    """An entry for the list at `path`, or with a `key` for the mapping there. `value` is as it is written in the file.

    `declares`: the entry only declares a name, so it counts as there whatever value the file has for the key.
    """

    path: KeyPath
    value: Any
    key: str | None = None
    declares: bool = False


@dataclass(frozen=True)
class WrittenValue:
    """An entry of the file after the additions. Lines count from 1."""

    path: KeyPath
    value: Any
    line: int


@dataclass(frozen=True)
class AddResult:
    """The new text, the entries that were added, and those that were there already."""

    text: str
    added: tuple[WrittenValue, ...]
    present: tuple[WrittenValue, ...]


def add_to(text: str, additions: Iterable[Addition], file: str) -> AddResult:
    """Make the additions, in order. The result is valid YAML; whether it is a valid Sandboxfile is not checked.

    Raises SandboxfileError for a text that cannot be read, for a key that has another value already, and where nothing
    can be added in place.
    """
    added: list[KeyPath] = []
    present: list[KeyPath] = []
    for addition in additions:
        source = read_source(text, file) if text.strip() else Source(file, [], {})
        existing = _find(source, addition)
        if existing is not None:
            present += [] if addition.declares else [existing]
        elif addition.key is None:
            added.append((*addition.path, len(_at(source.data, addition.path) or ())))
            text = append(text, addition.path, addition.value, file)
        else:
            added.append((*addition.path, addition.key))
            text = insert(text, addition.path, addition.key, addition.value, file)
    source = read_source(text, file)
    return AddResult(text, _entries(source, added), _entries(source, present))


def _find(source: Source, addition: Addition) -> KeyPath | None:
    """The path of the entry in the file, None when it is not there. Raises SandboxfileError for another value there."""
    section = _at(source.data, addition.path)
    name = str(addition.path[-1])
    if addition.key is None:
        for index, item in enumerate(section if isinstance(section, list) else ()):
            if _same(name, item, addition.value):
                return (*addition.path, index)
    elif isinstance(section, dict) and addition.key in section:
        path = (*addition.path, addition.key)
        if addition.declares or _same(name, section[addition.key], addition.value):
            return path
        problem = Problem(path, "is there already, and is something else", "change it in the file", at_key=True)
        raise SandboxfileError([source.diagnose(problem)])
    return None


def _same(section: str, one: Any, other: Any) -> bool:
    model = _MODELS.get(section)
    if model is None or one == other:
        return bool(one == other)
    try:
        return model.model_validate(one) == model.model_validate(other)
    except ValidationError:
        return False  # one of them is not valid, at least not before its variables are replaced


def _at(data: Any, path: KeyPath) -> Any:
    for segment in path:
        data = child(data, segment)
    return data


def _entries(source: Source, paths: list[KeyPath]) -> tuple[WrittenValue, ...]:
    entries = []
    for path in paths:
        position = source.positions.of_key(path)
        entries.append(WrittenValue(path, _at(source.data, path), position.line if position else 1))
    return tuple(entries)
