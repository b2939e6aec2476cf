"""`profiles` of services: a service that has some belongs to the sandbox only while one of them is active.

What is active is what `profiles` of the file names (`--profile` adds to it), and the variable COMPOSE_PROFILES. As with
Compose, `*` stands for every profile.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sandboxfile.compose.agreement import named_services
from sandboxfile.diagnostics import Problem, quote
from sandboxfile.positions import KeyPath
from sandboxfile.reading.document import Document, Placed
from sandboxfile.reading.interpolate import Substituted
from sandboxfile.reading.layers import lay_service_over

KEY = "profiles"
VARIABLE = "COMPOSE_PROFILES"
EVERY = "*"


def activate(document: Document, look_up: Callable[[str], str | None]) -> Document:
    """The document whose `profiles` also name those of the variable, which is looked up if a service has profiles."""
    if not any(isinstance(service, dict) and service.get(KEY) for service in _services(document.data).values()):
        return document
    words = [word for word in map(str.strip, (look_up(VARIABLE) or "").split(",")) if word]
    named = document.data.get(KEY, [])
    if not words or not isinstance(named, list):
        return document
    tree = document.tree()
    written = tree.value.get(KEY)
    before = written or Placed([], tree.source, (KEY,))
    added = [Placed(Substituted(word, (VARIABLE,)), before.source, before.path) for word in words if word not in named]
    profiles = Placed([*before.value, *added], before.source, before.path)
    return Document.of(Placed({**tree.value, KEY: profiles}, tree.source, tree.path), document.main)


def flatten(document: Document) -> Document:
    """The document in which no service extends one with profiles: it has the values of that one itself.

    A service that extends another one has its profiles, too. The guest's Compose file has the active services only.
    """
    services = _services(document.data)
    # Only services that extend one with profiles can be told otherwise by them.
    late = [name for name in services if any(_profiles(services[base]) for base in _bases(services, name))]
    if not late:
        return document
    tree = document.tree()
    section = tree.value["services"]
    entries = dict(section.value)
    for name in late:
        for base in _bases(services, name):
            rest = {key: item for key, item in entries[name].value.items() if key != "extends"}
            over = Placed(rest, entries[name].source, entries[name].path)
            entries[name] = lay_service_over(section.value[base], over, name)
    own = {name: _without_own_extends(item) if name in late else item for name, item in entries.items()}
    changed = Placed(own, section.source, section.path)
    return Document.of(Placed({**tree.value, "services": changed}, tree.source, tree.path), document.main)


def inactive(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The services that do not belong to the sandbox, in file order."""
    active = frozenset(_profiles(data))
    if EVERY in active:
        return ()
    return tuple(
        name for name, service in _services(data).items() if (own := _profiles(service)) and active.isdisjoint(own)
    )


def select(document: Document, left_out: tuple[str, ...]) -> Document:
    """The document without the services `left_out`. Paths and places stay those of the whole one."""
    if not left_out:
        return document
    services = {name: service for name, service in _services(document.data).items() if name not in left_out}
    services = {name: _without_optional(service, left_out) for name, service in services.items()}
    return dataclasses.replace(document, root=document.tree(), data={**document.data, "services": services})


def check_needed(data: Mapping[str, Any], left_out: tuple[str, ...]) -> Iterator[Problem]:
    """A problem for each service that needs one whose profile is not active, as Compose has it."""
    services = _services(data)
    for name, service in services.items():
        if name in left_out:
            continue
        for path, other in _needed(service):
            if other in left_out:
                profiles = _profiles(services[other])
                message = f"{quote(other)} is not part of the sandbox: its profile {profiles[0]} is not active"
                hint = f"write profiles: [{profiles[0]}], or give {quote(name)} the same `profiles`"
                yield Problem(("services", name, *path), message, hint, at_key=path[0] == "depends_on")


def _needed(service: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    needed = service.get("depends_on")
    if isinstance(needed, dict):
        yield from ((("depends_on", name), name) for name, how in needed.items() if not _optional(how))
    elif isinstance(needed, list):
        yield from ((("depends_on", index), name) for index, name in enumerate(needed) if isinstance(name, str))
    yield from ((path, other) for path, other in named_services(service) if path[0] != "extends")


def _without_optional(service: Any, left_out: tuple[str, ...]) -> Any:
    """The service without what it only waits for if it is there (`required: false`)."""
    needed = service.get("depends_on") if isinstance(service, dict) else None
    if not isinstance(needed, dict) or not any(name in left_out and _optional(how) for name, how in needed.items()):
        return service
    kept = {name: how for name, how in needed.items() if name not in left_out or not _optional(how)}
    rest = {key: value for key, value in service.items() if key != "depends_on"}
    return {**rest, "depends_on": kept} if kept else rest


def _optional(how: Any) -> bool:
    return isinstance(how, dict) and how.get("required") is False


def _bases(services: Mapping[str, Any], name: str) -> list[str]:
    """The services of the file that `name` extends, directly and indirectly, the nearest first."""
    found: list[str] = []
    while (base := _base(services.get(name))) in services and base != name and base not in found:
        found.append(name := str(base))
    return found


def _base(service: Any) -> str | None:
    if not isinstance(service, dict):
        return None
    return next((other for path, other in named_services(service) if path[0] == "extends"), None)


def _without_own_extends(item: Placed) -> Placed:
    if not isinstance(item.value, dict):
        return item
    return Placed({key: inner for key, inner in item.value.items() if key != "extends"}, item.source, item.path)


def _profiles(service: Any) -> list[str]:
    profiles = service.get(KEY) if isinstance(service, dict) else None
    return [word for word in profiles if isinstance(word, str)] if isinstance(profiles, list) else []


def _services(data: Mapping[str, Any]) -> dict[str, Any]:
    services = data.get("services") if isinstance(data, dict) else None
    return services if isinstance(services, dict) else {}
