"""From requests that were seen to the narrowest methods and path patterns that people would write for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from engine.gateway.paths import BadTarget, Target, allows, read_target

SIBLINGS = 8  # of one directory, that are listed; of more only the directory is
PATTERNS = 20  # of one host

_NUMBER = re.compile(r"[0-9]+")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_HASH = re.compile(r"(?=.*[0-9])[0-9a-fA-F]{8,}")
_TOKEN = re.compile(r"([A-Za-z]{1,12}[-_])?(?=[A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{16,}")
_ENDING = re.compile(r"(?P<stem>.+?)(?P<ending>(\.[a-z][a-z0-9]{0,7}){1,2})")

Request = tuple[str, str]
"""Method and path, in normal form."""


@dataclass(frozen=True)
class Conditions:
    """What one endpoint names; empty: all."""

    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def conditions_for(requests: Iterable[Request], methods: Iterable[str]) -> list[Conditions]:
    """Conditions of which each request meets one. `methods` are those that a file can name.

    What cannot be told by a pattern (a path that servers read in more than one way) is not narrowed.
    """
    asked = sorted(set(requests))
    named = _named({method for method, _ in asked}, frozenset(methods))
    patterns = patterns_for(path for _, path in asked)
    if not named or not patterns:
        return [Conditions(named, patterns or ())]
    groups: dict[tuple[str, ...], list[str]] = {}
    for pattern in patterns:
        used = {method for method, path in asked if matches(pattern, path)}
        groups.setdefault(_named(used, frozenset(methods)), []).append(pattern)
    narrow = [Conditions(group, tuple(paths)) for group, paths in sorted(groups.items())]
    # A path with two readings may have one of them in each group.
    return narrow if all(_meets(request, narrow) for request in asked) else [Conditions(named, patterns)]


def patterns_for(paths: Iterable[str]) -> tuple[str, ...] | None:
    """The fewest patterns that people would write for these paths; empty: all paths; None: no pattern can say it."""
    try:
        targets = [read_target(path, strict=True) for path in set(paths)]
    except BadTarget:
        return None
    if any(target.wire == "*" for target in targets):
        return None
    for most in (SIBLINGS, 4, 2, 1):
        root = _Directory()
        for target in targets:
            for reading in target.readings:
                root.add(reading.split("/")[1:])
        root.fold(most)
        found = tuple(sorted(root.patterns("")))
        if len(found) <= PATTERNS:
            break
    if "/**" in found:
        return ()
    return found if all(allows(found, target) for target in targets) else None


@dataclass
class _Directory:
    children: dict[str, _Directory] = field(default_factory=dict)
    is_asked: bool = False  # a path ends here

    def add(self, segments: list[str]) -> None:
        place = self
        for segment in segments:
            place = place.children.setdefault(_general(segment), _Directory())
        place.is_asked = True

    def fold(self, most: int) -> None:
        for child in self.children.values():
            child.fold(most)
        leaves = all(not child.children for child in self.children.values())
        if len(self.children) > most:
            self.children = {"*" if leaves else "**": _Directory(is_asked=True)}
        star = self.children.get("*")
        if star is not None and star.is_asked:
            others = self.children.items()
            self.children = {name: child for name, child in others if child.children or name == "*"}

    def patterns(self, above: str) -> Iterator[str]:
        if self.is_asked and "**" not in self.children:
            yield above
        for name, child in self.children.items():
            yield from child.patterns(f"{above}/{name}")


def _general(segment: str) -> str:
    """`*` for a segment that names one thing of many, such as 1234, and for what a pattern would not take literally."""
    if "*" in segment:
        return "*"
    ended = _ENDING.fullmatch(segment)
    if ended is not None and _is_identifier(ended["stem"]):
        return f"*{ended['ending']}"
    return "*" if _is_identifier(segment) else segment


def _is_identifier(text: str) -> bool:
    return any(pattern.fullmatch(text) for pattern in (_NUMBER, _UUID, _HASH, _TOKEN))


def _named(methods: set[str], known: frozenset[str]) -> tuple[str, ...]:
    """As an endpoint names them; empty (all) where it cannot. GET includes HEAD."""
    if not methods <= known:
        return ()
    return tuple(sorted(methods - {"HEAD"} if "GET" in methods else methods))


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches any reading of a path. Raises BadTarget for a path that has none."""
    target = read_target(path, strict=True)
    return any(allows([pattern], Target(target.wire, (reading,), target.query)) for reading in target.readings)


def _meets(request: Request, conditions: Iterable[Conditions]) -> bool:
    method, path = request
    target = read_target(path, strict=True)
    return any(
        (not one.methods or method in one.methods or (method == "HEAD" and "GET" in one.methods))
        and (not one.paths or allows(one.paths, target))
        for one in conditions
    )
