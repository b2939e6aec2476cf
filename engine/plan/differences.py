"""Two values of plain data, and what is different between them in words that fit a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.report.text import cut
from engine.secrets.secrecy import is_of_environment, is_private_name, is_private_place
from engine.state.keys import KEY_LENGTH
from sandboxfile.positions import KeyPath

SHOWN = 40  # characters of a value
SHOWN_ITEMS = 6  # of a list of a build node


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
        yield from compare_items(path, old, new, lambda item: _masked(path, item))
    elif is_private_place(path):
        yield Difference(path, "changed")
    else:
        yield Difference(path, f"{describe(old)} -> {describe(new)}")


def compare_items(
    path: KeyPath, old: Sequence[Any], new: Sequence[Any], in_words: Callable[[Any], str]
) -> Iterator[Difference]:
    """One for each item that came or went; one alone when all that changed is the order."""
    gone: list[Any] = list(old)
    come: list[Any] = []
    for item in new:
        if item in gone:
            gone.remove(item)
        else:
            come.append(item)
    for sign, items in (("-", gone), ("+", come)):
        yield from (Difference(path, f"{sign} {in_words(item)}") for item in items)
    if list(old) != list(new) and not gone and not come:
        yield Difference(path, "another order")


def describe(value: Any, path: KeyPath = ()) -> str:
    """The value at `path` in at most SHOWN characters; of what is private only names."""
    if value is None or value in ("", [], {}):
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        text = " ".join(_masked(path, item) for item in value)
    elif isinstance(value, Mapping):
        text = ", ".join(
            f"{key}: {'...' if is_private_place((*path, key)) else describe(item, (*path, key))}"
            for key, item in value.items()
        )
    else:
        text = str(value)
    return cut(text, SHOWN)


def describe_changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two sets of named inputs, in a few words; "" when nothing does."""
    names = sorted(name for name in {*before, *now} if before.get(name, "") != now.get(name, ""))
    return "; ".join(f"{name} changed{_describe_change(before.get(name, ''), now.get(name, ''))}" for name in names)


def _one_word(path: KeyPath, value: Any) -> str:
    """What follows "added": the value, where it is one word that may be seen."""
    if isinstance(value, (Mapping, list)) or value in (None, "") or is_private_place(path):
        return ""
    return f": {describe(value, path)}"


def _masked(path: KeyPath, item: Any) -> str:
    """An item of a list; of NAME=VALUE perhaps only the name."""
    name, equals, _ = item.partition("=") if isinstance(item, str) else ("", "", "")
    return f"{name}=..." if equals and (is_of_environment(path) or is_private_name(name)) else describe(item, path)


def _describe_change(before: str, now: str) -> str:
    old, new = before.splitlines(), now.splitlines()
    if len(old) == 1 and len(new) == 1:
        both = f": {before} -> {now}"
        return "" if _looks_hashed(before) or len(both) > 2 * SHOWN else both
    items = [f"+{item}" for item in new if item not in old] + [f"-{item}" for item in old if item not in new]
    if not items:
        return " (order)"
    if any(_looks_hashed(item[1:]) or len(item) > SHOWN for item in items):
        return ""
    more = [f"and {len(items) - SHOWN_ITEMS} more"] if len(items) > SHOWN_ITEMS else []
    return ": " + " ".join(items[:SHOWN_ITEMS] + more)


def _looks_hashed(value: str) -> bool:
    return len(value) >= KEY_LENGTH and all(character in "0123456789abcdef" for character in value)
