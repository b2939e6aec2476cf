"""Writing a checked value as text that loads to the same value, and telling where each of its values came from."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from sandboxfile.positions import KeyPath
from sandboxfile.quantities import format_duration, format_rate, format_size
from sandboxfile.reading.document import Document, child, leaves
from sandboxfile.reading.interpolate import Substituted, escape
from sandboxfile.reading.scalars import UnusableScalar, resolve_scalar
from sandboxfile.reading.substitution import is_literal
from sandboxfile.sections.model import Sandbox

# What files write in other words than the model's numbers; of a list of mappings, in each of them.
_IN_WORDS: Mapping[tuple[str, str], Callable[[int], str]] = {
    ("machine", "memory"): format_size,
    ("machine", "disk"): format_size,
    ("machine", "network_rate"): format_rate,
    ("mounts", "limit"): format_size,
}


class Origin(NamedTuple):
    """One value of the resolved file.

    `source` says where it is written; `variables` are those that it was made with.
    """

    path: KeyPath
    value: Any
    source: str
    variables: tuple[str, ...] = ()


def to_data(sandbox: Sandbox, *, defaults: bool = False) -> dict[str, Any]:
    """The value as plain data, with all short forms written out. Values that nobody has written need `defaults`."""
    data = sandbox.model_dump(mode="json", by_alias=True, exclude_unset=not defaults, exclude_none=True)
    data.setdefault("name", sandbox.name)
    # In the Compose sections even an empty value may have a meaning, so they are taken as they are.
    for section in ("services", "volumes", "networks", "configs"):
        if (value := getattr(sandbox, section)) or section in data:
            data[section] = value
    if not defaults:
        data = {key: value for key, value in data.items() if value not in ({}, [])}
    for part in (data, *data.get("agents", {}).values()):
        _with_units(part)
    return {key: data[key] for key in _in_order(data)}


def _with_units(data: dict[str, Any]) -> None:
    """Sizes and times as they are written; a time without use alone where nothing else is said of it."""
    for section, name in _IN_WORDS:
        places: Any = data.get(section) or ()
        for place in places if isinstance(places, list) else (places,):
            if isinstance(number := child(place, name), int):
                place[name] = _IN_WORDS[section, name](number)
    idle = child(data.get("machine"), "idle")
    if isinstance(idle, dict) and isinstance(idle.get("after"), int):
        after = format_duration(idle["after"])
        data["machine"]["idle"] = {**idle, "after": after} if "do" in idle else after


def to_text(sandbox: Sandbox, *, defaults: bool = False) -> str:
    """YAML that loads to `sandbox` in any environment, since it has no variables."""
    return write_yaml(_escaped(to_data(sandbox, defaults=defaults), ()))


def write_yaml(data: Any) -> str:
    """Plain data as YAML 1.2, in block style and in the given order. Texts that could be misread are quoted."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

    def styled(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {styled(key): styled(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [styled(item) for item in value]
        if not isinstance(value, str):
            return value
        text = str(value)
        if "\n" in text and _fits_a_block(text):
            return LiteralScalarString(text)
        return text if _is_plain(text) else DoubleQuotedScalarString(text)

    yaml = YAML()
    yaml.width = 10_000  # no line is folded
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(styled(data), stream)
    return stream.getvalue()


def origins(sandbox: Sandbox, document: Document, variables: Mapping[str, str]) -> Iterator[Origin]:
    """Every value, defaults included, with its origin, in the order of the file's sections."""
    given = {path for path, _ in leaves(to_data(sandbox))}
    for path, value in leaves(to_data(sandbox, defaults=True)):
        if path == ("name",) and child_at(document.data, path) is None:
            yield Origin(path, value, "the directory's name")
        elif path in given:
            yield _origin(path, value, document, variables)
        else:
            yield Origin(path, value, "default")


def _origin(path: KeyPath, value: Any, document: Document, variables: Mapping[str, str]) -> Origin:
    written = path
    while written and child_at(document.data, written) is None:
        written = written[:-1]  # a field of a short form has the place of the short form
    text = document.texts.get(written, child_at(document.data, written))
    source, position = document.position(written)
    names = text.names if isinstance(text, Substituted) else ()
    shown = source.file if position is None else f"{source.file}:{position.line}"
    return Origin(path, value, shown, tuple(f"{name} ({variables.get(name, 'not set')})" for name in names))


def child_at(data: Any, path: KeyPath) -> Any:
    """The member of plain data at `path`; None when there is none."""
    for key in path:
        data = child(data, key)
    return data


def _in_order(data: Mapping[str, Any]) -> list[str]:
    known = [field.alias or name for name, field in Sandbox.model_fields.items()]
    return sorted(data, key=known.index)


def _escaped(value: Any, path: KeyPath) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(item, (*path, index)) for index, item in enumerate(value)]
    return escape(value) if isinstance(value, str) and not is_literal(path) else value


def _is_plain(text: str) -> bool:
    """Whether every reader of YAML reads the word without quotes as this text."""
    if not text or text != text.strip() or not text.isprintable():
        return False
    if text[0] in "-?:,[]{}#&*!|>'\"%@`=<~+" or any(mark in text for mark in (": ", " #", "\t")) or text.endswith(":"):
        return False
    if text.lower() in ("yes", "no", "on", "off", "y", "n", "true", "false", "null"):
        return False
    # A reader of YAML 1.1 could read these as numbers, dates or times. 4GiB, 30m and ./data are safe.
    if text[0] in "0123456789." and not re.fullmatch(r"[0-9]+[A-Za-z]{1,3}|\.{1,2}(/.*)?", text):
        return False
    try:
        return isinstance(resolve_scalar(text), str)
    except UnusableScalar:
        return False


def _fits_a_block(text: str) -> bool:
    lines = text.split("\n")
    if any(char in text for char in "\r\t\x85\u2028\u2029") or not all(line.isprintable() for line in lines):
        return False
    return bool(lines[0].strip()) and not lines[0].startswith(" ") and not any(line != line.rstrip() for line in lines)
