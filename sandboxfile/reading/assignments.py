"""`--set path=value`: single values that are laid over everything else."""

from __future__ import annotations

import re
from collections.abc import Callable

from sandboxfile.diagnostics import Diagnostic, quote
from sandboxfile.positions import KeyPath
from sandboxfile.reading.document import Placed, place
from sandboxfile.reading.layers import lay_over
from sandboxfile.reading.source import Source, read_source

_STEP = r"\[(?P<index>[0-9]{1,6})\]|\['(?P<single>[^']*)'\]|\[\"(?P<double>[^\"]*)\"\]|\.?(?P<word>[^.\[\]=+]+)"
_EXAMPLE = "such as machine.memory=8GiB, endpoints+=api.example.com or services.db.image=postgres:17"


def assign(base: Placed, text: str) -> tuple[Placed, list[Diagnostic]]:
    """Make the assignment `text`; returns the changed `base`, and the problems.

    `PATH=VALUE` replaces the value at PATH, `PATH+=VALUE` adds to the list there; VALUE is YAML. In PATH, keys are
    separated by dots; a list entry is written as `[0]`, and a key with other characters as `['a.b']`.
    """
    label = f"--set {text}"
    parsed = _split(text)
    if parsed is None:
        return base, [Diagnostic(None, (), "must be PATH=VALUE", _EXAMPLE, label)]
    path, adds, written = parsed
    source = read_source(f"value: {written}", label) if "\n" not in written else read_source(written, label)
    if source.problems or not isinstance(source.data, dict) or set(source.data) != {"value"}:
        reason = source.problems[0].message if source.problems else "is not one value"
        return base, [Diagnostic(None, path, f"the value {quote(written)} cannot be read: {reason}", None, label)]
    value = place(source.data["value"], _unplaced(label), path)
    try:
        return _put(base, path, value, adds), []
    except _NoPlace as error:
        return base, [Diagnostic(None, path, str(error), _EXAMPLE, label)]


class _NoPlace(Exception):
    """The path leads to no value that could be set."""


def _split(text: str) -> tuple[KeyPath, bool, str] | None:
    path: KeyPath = ()
    index = 0
    while index < len(text) and not text.startswith(("=", "+="), index):
        match = re.compile(_STEP).match(text, index)
        if match is None:
            return None
        number = match.group("index")
        path = (*path, int(number) if number is not None else next(filter(None, match.groups()[1:]), "").strip())
        index = match.end()
    adds = text.startswith("+=", index)
    if not path or not text.startswith(("=", "+="), index) or not isinstance(path[0], str):
        return None
    return path, adds, text[index + 1 + adds :].strip()


def _unplaced(label: str) -> Source:
    """A source for values that stand in no file: problems name the label, and no line."""
    return Source(label, [])


def _put(base: Placed, path: KeyPath, value: Placed, adds: bool) -> Placed:
    if not adds:
        return _change(base, path, lambda old: value, value)
    entry = Placed([value], value.source, value.path)
    if len(path) == 1 and isinstance(path[0], str):  # a section: by the rules of layers, the same entry is replaced
        return lay_over(base, Placed({path[0]: entry}, value.source, ()))

    def add(old: Placed | None) -> Placed:
        if old is None or old.value is None:
            return entry
        if not isinstance(old.value, list):
            raise _NoPlace("is not a list, nothing can be added to it")
        return Placed([*old.value, value], old.source, old.path)

    return _change(base, path, add, value)


def _change(base: Placed, path: KeyPath, change: Callable[[Placed | None], Placed], value: Placed) -> Placed:
    """`base` with the value at `path` changed.

    Mappings on the way that do not exist are made, in the place of `value`.
    """
    key, rest = path[0], path[1:]
    if isinstance(key, int):
        if not isinstance(base.value, list) or not 0 <= key < len(base.value):
            raise _NoPlace(f"there is no entry [{key}]")
        items = list(base.value)
        items[key] = _change(items[key], rest, change, value) if rest else change(items[key])
        return Placed(items, base.source, base.path)
    if isinstance(base.value, list):
        raise _NoPlace(f"is a list: [0] and so on name its entries, not {quote(key)}")
    if not isinstance(base.value, dict):
        raise _NoPlace(f"has no keys: what is there is {quote(base.value)}")
    entries = dict(base.value)
    old = entries.get(key)
    if rest:
        made = value.path[: len(value.path) - len(rest)]
        entries[key] = _change(old or Placed({}, value.source, made), rest, change, value)
    else:
        entries[key] = change(old)
        if entries[key].value is None:
            del entries[key]  # as in a layer, an empty value removes the key
    return Placed(entries, base.source, base.path)
