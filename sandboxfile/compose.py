"""The Compose sections, judged by a library of the Compose specification.

The library is stricter than Compose in many places (`dialect.py` has them); what our own checks judge, or what Compose
is known to take, it never sees. The last word has `docker compose config` in the guest.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.machinery import PathFinder
from typing import Any

from .agreement import check_agreement
from .diagnostics import Problem, did_you_mean, one_of, quote
from .dialect import BESIDE_SOURCES, CONFIG_SOURCES, check_service, soften
from .images import check_image
from .positions import KeyPath
from .published import MOST_PORTS, parse_ports

SECTIONS = ("services", "volumes", "networks", "configs")

_PLACE = re.compile(r" at line \d+ column \d+$")
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

_Check = Callable[[dict[str, Any]], str | None]


def check_compose(data: dict[str, Any]) -> list[Problem]:
    """All problems of the Compose sections of the file's plain data.

    Expects nothing of the data's shape: what is no mapping of mappings is the model's to report and is left out here.
    """
    document = {}
    for section in SECTIONS:
        if isinstance(entries := data.get(section), dict):
            document[section] = {name: entry for name, entry in entries.items() if isinstance(entry, dict)}
    services = document.get("services", {})
    problems = [problem for name, service in services.items() for problem in _own_checks(name, service)]
    problems += _port_checks(services)
    problems += check_agreement(services)
    problems += [
        problem for name, config in document.get("configs", {}).items() for problem in _config_checks(name, config)
    ]
    if not any(document.values()):
        return problems
    document = {"services": {}} | {
        section: {name: soften(section, entry) for name, entry in entries.items()}
        for section, entries in document.items()
    }
    check = _judge()
    if check(document) is None:
        return problems
    return problems + _blame(document, check)


@cache
def _judge() -> _Check:
    parse = _native_parser()

    def check(document: dict[str, Any]) -> str | None:
        try:
            parse(json.dumps(document))
        except ValueError as error:
            return _PLACE.sub("", str(error))
        return None

    return check


def _native_parser() -> Callable[[str], object]:
    """The library's parser. Its package also builds 1600 lines of models, which takes 0.1 s of a command's start and
    which only messages need; so the extension module is loaded alone, and through the package where that fails."""
    name = "compose_spec.compose_spec"
    package = importlib.util.find_spec("compose_spec")
    if "compose_spec" not in sys.modules and name not in sys.modules and package is not None:
        spec = PathFinder.find_spec(name, package.submodule_search_locations)
        if spec is not None and spec.loader is not None:
            native = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(native)
            sys.modules[name] = native
    native = sys.modules.get(name) or importlib.import_module(name)
    return native.PyCompose.from_json  # type: ignore[no-any-return]


def _own_checks(name: str, service: dict[str, Any]) -> list[Problem]:
    path: KeyPath = ("services", name)
    problems = []
    if service.get("image") is None and service.get("build") is None and "extends" not in service:
        problems.append(Problem(path, "needs an image or a build", "such as image: postgres:17, or build: ./web"))
    image = service.get("image")
    if isinstance(image, str) and (wrong := check_image(image)):
        problems.append(Problem((*path, "image"), *wrong))
    if "secrets" in service:
        message = "secrets cannot be given to a service: no credential enters the machine"
        hint = "name it in an endpoint's `secret`, or use a config for data that is no secret"
        problems.append(Problem((*path, "secrets"), message, hint, at_key=True))
    problems += check_service(name, service)
    return problems


def _port_checks(services: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    count = 0
    for name, service in services.items():
        ports = service.get("ports")
        for index, entry in enumerate(ports if isinstance(ports, list) else ()):
            try:
                count += len(parse_ports(entry))
            except ValueError as error:
                message, _, hint = str(error).partition("; ")
                yield Problem(("services", name, "ports", index), message, hint or None)
            if count > MOST_PORTS:
                yield Problem(("services", name, "ports", index), f"all services publish more than {MOST_PORTS} ports")
                return


def _blame(document: dict[str, Any], check: _Check) -> list[Problem]:
    """Which values make the document fail: every part is tried alone, ever smaller parts of those that fail.

    The library stops at its first error and counts columns of a text that nobody wrote, so its own place is no use.
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
        return [_translate(path, message, value)]  # nothing in it, but that it is one
    parts: list[tuple[str | int, Any, Callable[[Any], str | None]]] = []
    if isinstance(value, dict):
        parts = [(key, item, lambda part, key=key: check({key: part})) for key, item in value.items()]  # type: ignore[misc]
    elif isinstance(value, list):
        parts = [(index, item, lambda part: check([part])) for index, item in enumerate(value)]
    failing = [
        (key, item, inner, text) for key, item, inner in parts if (text := inner(item)) and _blamable(text, item)
    ]
    # A part alone may fail for what is no longer beside it; only if one fails as the whole did is a part to blame.
    if any(text == message for *_, text in failing):
        return [problem for key, item, inner, _ in failing for problem in _narrow((*path, key), item, inner)]
    return [_translate(path, message, value)]


def _blamable(message: str, part: Any) -> bool:
    """A missing field is not the fault of the scalar that is there, but of a mapping."""
    return not message.startswith("missing field") or isinstance(part, (dict, list))


def _translate(path: KeyPath, message: str, value: Any) -> Problem:
    """The library's words as ours."""
    if match := _WRONG_TYPE.fullmatch(message):
        wanted = _kind_wanted(match.group(2))
        if value is None:
            return Problem(path, f"is empty, must be {wanted}", "remove the key or fill it")
        return Problem(path, f"must be {wanted}, got {_kind_found(value)}")
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
        return Problem(path, "is not supported by the Compose version in the guest", at_key=True)
    return Problem(path, "unknown key", did_you_mean(name, known), at_key=True)


def _kind_wanted(words: str) -> str:
    return next((ours for theirs, ours in _TYPES if re.fullmatch(theirs, words)), words.replace("`", "'"))


def _kind_found(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return str(value).lower() if isinstance(value, bool) else quote(value)


def _config_checks(name: str, config: dict[str, Any]) -> Iterator[Problem]:
    """The library takes every other key for the lack of a source."""
    known = (*CONFIG_SOURCES, *BESIDE_SOURCES)
    for key in config:
        if key not in known and not key.startswith("x-"):
            yield Problem(("configs", name, key), "unknown key", did_you_mean(key, known), at_key=True)


def _known_keys(path: KeyPath) -> list[str]:
    from compose_spec.models import ComposeSpecification  # slow to import: only for a message

    from .shape import fields_at

    return list(fields_at(ComposeSpecification, path))
