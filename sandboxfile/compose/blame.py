"""Finding the value that makes the library refuse a Compose section, and explaining it in our words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sandboxfile.diagnostics import Problem, did_you_mean, one_of, quote
from sandboxfile.positions import KeyPath

_UNKNOWN_KEY = re.compile(r'extension key `(.*)` does not start with "x-"', re.DOTALL)
_WRONG_TYPE = re.compile(r"invalid (?:type|value): (.*), expected (.*)", re.DOTALL)
_WRONG_SIZE = re.compile(
    r"value `.*` (?:contains an unknown unit|could not be parsed as an unsigned integer)", re.DOTALL
)
_WRONG_TIME = re.compile(r"duration `.*` does not contain|`.*` is not a valid duration unit", re.DOTALL)
_WRONG_ADDRESS = re.compile(r"invalid IP(?:v4|v6)? address syntax|error parsing IP(?:v4|v6)? address")
_TYPES = (
    (r"[ui](?:8|16|32|64)|usize", "a whole number"),
    (r"f(?:32|64)", "a number"),
    (r"a value or -1", "a whole number or -1"),
    (r"struct .*|a map", "a mapping"),
    (r"a set|a sequence", "a list"),
    (r"a boolean", "true or false"),
)
_WRONG_WORD = re.compile(r"unknown variant `(.*)`, expected one of (.*)", re.DOTALL)

Check = Callable[[dict[str, Any]], str | None]
"""Returns the library's error for a document; None when the library accepts it."""


def find_blame(document: dict[str, Any], check: Check) -> list[Problem]:
    """The values that make the document fail. Every part is tried alone, and then the parts of those that fail.

    The library itself stops at its first error, and its error gives a place in a text that nobody has written.
    """
    problems = []
    for section, entries in document.items():
        for name, entry in entries.items():
            path: KeyPath = (section, name)
            if check({"services": {}, section: {name: entry}}) is None:
                continue
            if section != "configs" and (message := check({"services": {}, section: {name: {}}})):
                problems.append(Problem(path, message, at_key=True))
                continue
            for key, value in entry.items():

                def wrap(part: Any, section: str = section, name: str = name, key: str = key) -> dict[str, Any]:
                    return {"services": {}, section: {name: {key: part}}}

                problems += _narrow((*path, key), value, lambda part, wrap=wrap: check(wrap(part)))  # type: ignore[misc]
            if not any(problem.path[:2] == path for problem in problems) and (
                message := check({"services": {}, section: {name: entry}})
            ):
                problems.append(Problem(path, message))
    return problems or [Problem(("services",), check(document) or "is not valid")]


def _narrow(path: KeyPath, value: Any, check: Callable[[Any], str | None]) -> list[Problem]:
    message = check(value)
    if message is None:
        return []
    if (unknown := _UNKNOWN_KEY.search(message)) and unknown.group(1) == path[-1]:
        return [_translate(path, message, value)]
    if isinstance(value, (dict, list)) and value and check(type(value)()) == message:
        return [_translate(path, message, value)]  # the error is that a mapping or a list is here, whatever is in it
    parts: list[tuple[str | int, Any, Callable[[Any], str | None]]] = []
    if isinstance(value, dict):
        parts = [(key, item, lambda part, key=key: check({key: part})) for key, item in value.items()]  # type: ignore[misc]
    elif isinstance(value, list):
        parts = [(index, item, lambda part: check([part])) for index, item in enumerate(value)]
    failing = [
        (key, item, inner, text) for key, item, inner in parts if (text := inner(item)) and _blamable(text, item)
    ]
    # A part alone may also fail because its neighbours are missing. So the parts are only blamed if one of them fails
    # with the same message as the whole.
    if any(text == message for *_, text in failing):
        return [problem for key, item, inner, _ in failing for problem in _narrow((*path, key), item, inner)]
    return [_translate(path, message, value)]


def _blamable(message: str, part: Any) -> bool:
    """Whether `part` can cause this error. A scalar cannot cause a missing field: the mapping around it does."""
    return not message.startswith("missing field") or isinstance(part, (dict, list))


def _translate(path: KeyPath, message: str, value: Any) -> Problem:
    """The library's error as a problem in our words."""
    if match := _WRONG_TYPE.fullmatch(message):
        expected = _expected_kind(match.group(2))
        if value is None:
            return Problem(path, f"is empty, must be {expected}", "remove the key or fill it")
        return Problem(path, f"must be {expected}, got {_actual_kind(value)}")
    if match := _WRONG_WORD.fullmatch(message):
        words = tuple(re.findall("`([^`]*)`", match.group(2)))
        return Problem(
            path, f"must be {one_of(words)}, got {quote(match.group(1))}", did_you_mean(match.group(1), words)
        )
    if _WRONG_SIZE.match(message):
        return Problem(path, f"must be a size such as 512m or 2g, got {quote(value)}")
    if _WRONG_TIME.match(message):
        return Problem(path, f"must be a duration such as 10s or 1m30s, got {quote(value)}")
    if _WRONG_ADDRESS.match(message):
        return Problem(path, f"has no valid IP address: {quote(value)}")
    if message == "invalid float literal":
        return Problem(path, f"must be a number, got {quote(value)}")
    if (match := _UNKNOWN_KEY.search(message)) is None:
        return Problem(path, message.replace("`", "'"))
    name = match.group(1)
    if path[-1] != name:
        path = (*path, name)
    known = set(_known_keys(path[:-1]))
    if name in known:
        hint = "there is no GPU in the machine: remove it" if name == "gpus" else None
        return Problem(path, "is not supported by the Compose version in the guest", hint, at_key=True)
    return Problem(path, "unknown key", did_you_mean(name, known), at_key=True)


def _expected_kind(words: str) -> str:
    return next((ours for theirs, ours in _TYPES if re.fullmatch(theirs, words)), words.replace("`", "'"))


def _actual_kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return str(value).lower() if isinstance(value, bool) else quote(value)


def _known_keys(path: KeyPath) -> list[str]:
    from compose_spec.models import ComposeSpecification  # here, since it is slow to import and only messages need it

    from sandboxfile.sections.structure import fields_at

    return list(fields_at(ComposeSpecification, path))
