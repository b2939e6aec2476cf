"""Functions that answer questions about the `services` section. They expect services that the loader has accepted."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

from sandboxfile.compose.agreement import named_services
from sandboxfile.compose.published import parse_ports
from sandboxfile.sections.mounts import Mount

Services = Mapping[str, Mapping[str, Any]]

_REMOTE_CONTEXT = re.compile(r"^([a-z0-9+.-]+://|git@|github\.com/)")
_ELSEWHERE = re.compile(r"^([a-z0-9+.-]+://|git@|github\.com/|/|~|(service|target|docker-image|oci-layout):|$)")


class PublishedPort(NamedTuple):
    """One published port of a service. `host_port` is a port of the guest, None is any free port."""

    service: str
    host_port: int | None
    guest_port: int
    protocol: str


class AdditionalContext(NamedTuple):
    """A directory of the project that is a further context of a build.

    `key` is its key or index in `additional_contexts`. `path` is relative to the project, and normalised.
    """

    service: str
    key: str | int
    name: str
    path: str


class BindMount(NamedTuple):
    """A directory or file that a service mounts. `source` is as written: a path of the guest or of the project."""

    service: str
    source: str
    target: str


def published_ports(services: Services) -> tuple[PublishedPort, ...]:
    """All published ports, in file order; a range becomes one item for each port."""
    return tuple(
        PublishedPort(name, mapping.host_port, mapping.guest_port, mapping.protocol)
        for name, service in services.items()
        for entry in service.get("ports") or ()
        for mapping in parse_ports(entry)
    )


def build_contexts(services: Services) -> dict[str, str]:
    """Service -> its build context, relative to the project, normalised. Remote contexts (URLs) are left out."""
    contexts = {}
    for name, service in services.items():
        build = service.get("build")
        if build is None:
            continue
        context = build if isinstance(build, str) else build.get("context")
        if not _REMOTE_CONTEXT.match(context or "."):
            contexts[name] = posixpath.normpath(context or ".")
    return contexts


def additional_contexts(services: Services) -> list[AdditionalContext]:
    """The further contexts of builds that are directories of the project, in file order.

    Contexts that are directories of the guest (absolute paths), images, other services or URLs are left out.
    """
    return [
        AdditionalContext(name, key, written, posixpath.normpath(path))
        for name, service in services.items()
        if isinstance(build := service.get("build"), Mapping)
        for key, written, path in _named_paths(build.get("additional_contexts") or ())
        if not is_elsewhere(path)
    ]


def is_bound(options: Any) -> TypeGuard[dict[str, Any]]:
    """Whether the `driver_opts` of a volume make it a directory that is there already. Compose asks for this `o`."""
    return isinstance(options, dict) and options.get("o") == "bind" and "device" in options


def is_elsewhere(path: str) -> bool:
    """Whether a further context of a build is no directory of the project: a URL, an image, a path of the guest."""
    return bool(_ELSEWHERE.match(path))


def _named_paths(entries: Any) -> Iterator[tuple[str | int, str, str]]:
    if isinstance(entries, Mapping):
        yield from ((str(name), str(name), str(path)) for name, path in entries.items())
    else:
        pairs = (str(entry).partition("=") for entry in entries)
        yield from ((index, name, path) for index, (name, _, path) in enumerate(pairs))


def bind_mounts(services: Services) -> list[BindMount]:
    """All bind mounts of both forms, in file order. Named and anonymous volumes are no bind mounts."""
    return [
        BindMount(name, source, target)
        for name, service in services.items()
        for entry in service.get("volumes") or ()
        for kind, source, target in [volume_entry(entry)]
        if kind == "bind"
    ]


def volume_entry(entry: Any) -> tuple[str, str, str]:
    """(type, source, target) of an entry of a service's `volumes`. The type is `bind`, `volume` or another one.

    The source is "" where there is none.
    """
    if isinstance(entry, Mapping):
        return str(entry.get("type", "volume")), str(entry.get("source") or ""), str(entry.get("target", ""))
    parts = str(entry).split(":")
    if len(parts) == 1:
        return "volume", "", parts[0]
    kind = "bind" if parts[0].startswith((".", "/", "~")) else "volume"
    return kind, parts[0], parts[1]


def env_files(services: Services) -> dict[str, tuple[str, ...]]:
    """Service -> its environment files, relative to the project, as they are written."""
    files = {}
    for name, service in services.items():
        entries = service.get("env_file") or ()
        entries = entries if isinstance(entries, (list, tuple)) else [entries]
        paths = tuple(str(entry["path"]) if isinstance(entry, Mapping) else str(entry) for entry in entries)
        if paths:
            files[name] = paths
    return files


def dependencies(services: Services) -> dict[str, tuple[str, ...]]:
    """Service -> the services that Compose starts before it.

    They are those of `depends_on`, those whose network, processes or volumes the service shares, and those that it
    links to.
    """
    return {
        name: tuple(
            dict.fromkeys(
                [
                    *(service.get("depends_on") or ()),
                    *(other for path, other in named_services(service) if path[0] != "extends"),
                ]
            )
        )
        for name, service in services.items()
    }


def services_needing_mounts(services: Services, mounts: Iterable[Mount] = ()) -> tuple[str, ...]:
    """The services, in file order, that can only start when the directories of the host are mounted.

    They bind a path of the project, or a path below the target of a mount, or they depend on such a service or extend
    one.
    """
    targets = [mount.target for mount in mounts]
    late = {bind.service for bind in bind_mounts(services) if _is_live(bind.source, targets)}
    needed = dependencies(services)
    for name, service in services.items():
        needed[name] += tuple(other for path, other in named_services(service) if path[0] == "extends")
    while more := {name for name in services if name not in late and late.intersection(needed[name])}:
        late |= more
    return tuple(name for name in services if name in late)


def _is_live(source: str, targets: list[str]) -> bool:
    if not source.startswith(("/", "~")):
        return True
    path = posixpath.normpath(source)
    return any(path == target or path.startswith(f"{target}/") or target.startswith(f"{path}/") for target in targets)
