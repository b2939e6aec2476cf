"""Two values of plain data, and what is different between them in words that fit a line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sandboxfile.positions import KeyPath

SHOWN = 40  # characters of a value

# What a pipeline prints, many can read. `sandbox config` shows every value to whoever asks for it.
_PRIVATE = re.compile("pass|secret|token|key|credential", re.IGNORECASE)


class Difference(NamedTuple):
    """Something below `path` came, went or is another: `what` says it."""

    path: KeyPath
    what: str


def compare_values(path: KeyPath, old: Any, new: Any) -> Iterator[Difference]:
    """Every difference, as deep in mappings as it is; of lists, the items that came and went."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*new, *old]):
            if key not in old:
                yield Difference((*path, key), f"added{_one_word((*path, key), new[key])}")
            elif key not in new:
                yield Difference((*path, key), "removed")
            else:
                yield from compare_values((*path, key), old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list) and old and new:
        yield from compare_items(path, old, new, _masked)
    elif _is_private(path):
        yield Difference(path, "changed")
    else:
        yield Difference(path, f"{describe(old)} -> {describe(new)}")


def compare_items(
    path: KeyPath, old: Sequence[Any], new: Sequence[Any], describe: Callable[[Any], str]
) -> Iterator[Difference]:
    """One for each item that came or went; one alone when all that changed is the order."""
    gone, come = list(old), []
    for item in new:
        gone.remove(item) if item in gone else come.append(item)
    for sign, items in (("-", gone), ("+", come)):
        yield from (Difference(path, f"{sign} {describe(item)}") for item in items)
    if list(old) != list(new) and not gone and not come:
        yield Difference(path, "another order")


def describe(value: Any) -> str:
    """A value in at most SHOWN characters."""
    if value is None or value in ("", [], {}):
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        text = " ".join(describe(item) for item in value)
    elif isinstance(value, Mapping):
        text = ", ".join(f"{key}: {'...' if _is_private((key,)) else describe(item)}" for key, item in value.items())
    else:
        text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _one_word(path: KeyPath, value: Any) -> str:
    """What follows "added": the value, where it is one word that may be seen."""
    if isinstance(value, (Mapping, list)) or value in (None, "") or _is_private(path):
        return ""
    return f": {describe(value)}"


def _masked(item: Any) -> str:
    """An item of a list; of NAME=VALUE perhaps only the name."""
    name, equals, _ = item.partition("=") if isinstance(item, str) else ("", "", "")
    return f"{name}=..." if equals and _PRIVATE.search(name) else describe(item)


def _is_private(path: KeyPath) -> bool:
    return bool(_PRIVATE.search(str(path[-1])))
