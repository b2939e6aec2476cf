"""What is different between two values of plain data, in words that fit a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.report.text import cut
from engine.secrets.secrecy import is_of_environment, is_private_name, is_private_place
from engine.state.keys import KEY_LENGTH
from sandboxfile.positions import KeyPath

SHOWN = 40  # characters of a value
SHOWN_ITEMS = 6  # that came or went, of a list that is the input of a build node
ANOTHER_ORDER = "another order"


class Difference(NamedTuple):
    """The value at `path` was added, removed or replaced; `what` says which, in a few words."""

    path: KeyPath
    what: str


def compare_values(path: KeyPath, old: Any, new: Any) -> Iterator[Difference]:
    """Every difference: of mappings, down to the keys that differ; of lists, the items that were added and removed."""
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
    """A difference for each item that was removed or added; a single one when only the order changed."""
    removed, added = removed_and_added(old, new)
    for sign, items in (("-", removed), ("+", added)):
        yield from (Difference(path, f"{sign} {in_words(item)}") for item in items)
    if list(old) != list(new) and not removed and not added:
        yield Difference(path, ANOTHER_ORDER)


def removed_and_added(old: Sequence[Any], new: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The items that only `old` has, and those that only `new` has. An item that is there twice counts twice."""
    removed: list[Any] = list(old)
    added: list[Any] = []
    for item in new:
        if item in removed:
            removed.remove(item)
        else:
            added.append(item)
    return removed, added


def describe(value: Any, path: KeyPath = ()) -> str:
    """The value at `path` in at most SHOWN characters. Of private values only the names are shown."""
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
    """What differs between two sets of named inputs, in a few words; "" when they are equal."""
    names = sorted(name for name in {*before, *now} if before.get(name, "") != now.get(name, ""))
    return "; ".join(f"{name} changed{_describe_change(before.get(name, ''), now.get(name, ''))}" for name in names)


def _one_word(path: KeyPath, value: Any) -> str:
    """The text after "added": the value, where it is a single word that is not private; else nothing."""
    if isinstance(value, (Mapping, list)) or value in (None, "") or is_private_place(path):
        return ""
    return f": {describe(value, path)}"


def _masked(path: KeyPath, item: Any) -> str:
    """An item of a list as text. The value of NAME=VALUE is left out in an environment, and where NAME is private."""
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
