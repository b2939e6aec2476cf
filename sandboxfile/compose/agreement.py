"""Checking the keys of services together: values that must agree, and named services that must exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sandboxfile.diagnostics import Problem, did_you_mean, quote
from sandboxfile.positions import KeyPath, render_path

HINTS = 100  # a hint takes a millisecond to find, and nobody reads more of them than this
_UNITS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = r"(?i)([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)i?b?"


def check_agreement(services: Mapping[str, dict[str, Any]]) -> Iterator[Problem]:
    """All problems of this kind. The values of `services` may have any shape."""
    hints = HINTS
    for name, service in services.items():
        place: KeyPath = ("services", name)
        yield from _same_values(place, service)
        yield from _one_container(place, service)
        yield from _platforms(place, service)
        yield from _networks(place, service)
        for path, other in named_services(service):
            if other not in services:
                hint = did_you_mean(other, services) if hints > 0 else None
                hints -= 1
                yield Problem((*place, *path), f"there is no service {quote(other)}", hint)
            elif path[0] == "extends" and other == name:
                yield Problem((*place, *path), "a service cannot extend itself")


def _same_values(place: KeyPath, service: dict[str, Any]) -> Iterator[Problem]:
    """A problem for each setting that an early key and a key of `deploy` both have, with different values."""
    for key, path, read in _TWICE:
        early, late = _get(service, (key,)), _get(service, path)
        if early is not None and late is not None and _read(read, early) != _read(read, late):
            other = render_path(path)
            yield Problem((*place, key), f"is {quote(early)}, and {other} is {quote(late)}", f"keep {other} only")


def _one_container(place: KeyPath, service: dict[str, Any]) -> Iterator[Problem]:
    for path in (("scale",), ("deploy", "replicas")):
        count = _read(int, _get(service, path))
        if service.get("container_name") and isinstance(count, int) and count > 1:
            yield Problem((*place, *path), f"{count} containers cannot all have the one `container_name`")


def _platforms(place: KeyPath, service: dict[str, Any]) -> Iterator[Problem]:
    platform, built = service.get("platform"), _get(service, ("build", "platforms"))
    if platform and isinstance(built, list) and built and platform not in built:
        yield Problem((*place, "build", "platforms"), f"does not have the service's platform {quote(platform)}")


def _networks(place: KeyPath, service: dict[str, Any]) -> Iterator[Problem]:
    networks = service.get("networks")
    seen = set()
    for index, network in enumerate(networks if isinstance(networks, list) else ()):
        if isinstance(network, str) and network in seen:
            yield Problem((*place, "networks", index), f"lists {quote(network)} twice")
        seen.add(str(network))


def named_services(service: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """(path within the service, name) of each other service that a service names, except in `depends_on`."""
    for key in ("network_mode", "ipc", "pid"):
        if isinstance(value := service.get(key), str) and value.startswith("service:"):
            yield (key,), value.removeprefix("service:")
    for key in ("links", "volumes_from"):
        entries = service.get(key)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, str) and not entry.startswith("container:"):
                yield (key, index), entry.partition(":")[0]
    extended = service.get("extends")
    if isinstance(extended, str):
        yield ("extends",), extended
    elif isinstance(extended, dict) and "file" not in extended and isinstance(name := extended.get("service"), str):
        yield ("extends", "service"), name


def _get(value: Any, path: KeyPath) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _read(read: Callable[[Any], Any], value: Any) -> Any:
    """The value as `read` reads it, so that `1` and `"1.0"` compare as equal; the value itself where it cannot."""
    try:
        return read(value)
    except (ValueError, TypeError, OverflowError):
        return value


def _size(value: Any) -> float:
    if (match := re.fullmatch(_SIZE, str(value))) is None:
        raise ValueError
    power: int = 1024 ** _UNITS[match.group(2).lower()]
    return float(match.group(1)) * power


_TWICE: tuple[tuple[str, KeyPath, Callable[[Any], Any]], ...] = (
    ("scale", ("deploy", "replicas"), int),
    ("cpus", ("deploy", "resources", "limits", "cpus"), float),
    ("mem_limit", ("deploy", "resources", "limits", "memory"), _size),
    ("mem_reservation", ("deploy", "resources", "reservations", "memory"), _size),
    ("pids_limit", ("deploy", "resources", "limits", "pids"), int),
)
