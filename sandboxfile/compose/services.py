"""Questions to the `services` section. All functions expect services that the loader has accepted."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sandboxfile.compose.agreement import named_services
from sandboxfile.compose.published import parse_ports
from sandboxfile.sections.mounts import Mount

Services = Mapping[str, Mapping[str, Any]]

_REMOTE_CONTEXT = re.compile(r"^([a-z0-9+.-]+://|git@|github\.com/)")
_ELSEWHERE = re.compile(r"^([a-z0-9+.-]+://|git@|github\.com/|/|~|(service|target|docker-image|oci-layout):|$)")


class PublishedPort(NamedTuple):
    """One published port of a service. `host_port` is a port of the guest's Docker, None for any free one."""

    service: str
    host_port: int | None
    guest_port: int
    protocol: str


class AdditionalContext(NamedTuple):
    """A directory of the project beside a build's context. `key` is its key or index in `additional_contexts`, `path`
    relative to the project, normalised."""

    service: str
    key: str | int
    name: str
    path: str


class BindMount(NamedTuple):
    """A directory or file that a service mounts: `source` as written, a path of the guest or of the project."""

    service: str
    source: str
    target: str


def published_ports(services: Services) -> tuple[PublishedPort, ...]:
    """All published ports in file order, ranges expanded."""
    return tuple(
        PublishedPort(name, mapping.host_port, mapping.guest_port, mapping.protocol)
        for name, service in services.items()
        for entry in service.get("ports") or ()
        for mapping in parse_ports(entry)
    )


def build_contexts(services: Services) -> dict[str, str]:
    """Service to its build context, relative to the project, normalised; remote contexts (URLs) are left out."""
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
    """The further contexts of builds that are directories of the project, in file order; those of the guest (absolute
    paths), images, other services and remote ones are left out."""
    return [
        AdditionalContext(name, key, written, posixpath.normpath(path))
        for name, service in services.items()
        if isinstance(build := service.get("build"), Mapping)
        for key, written, path in _named_paths(build.get("additional_contexts") or ())
        if not _ELSEWHERE.match(path)
    ]


def _named_paths(entries: Any) -> Iterator[tuple[str | int, str, str]]:
    if isinstance(entries, Mapping):
        yield from ((str(name), str(name), str(path)) for name, path in entries.items())
    else:
        pairs = (str(entry).partition("=") for entry in entries)
        yield from ((index, name, path) for index, (name, _, path) in enumerate(pairs))


def bind_mounts(services: Services) -> list[BindMount]:
    """All bind mounts in file order, short and long forms; named volumes and anonymous ones are no bind mounts."""
    return [
        BindMount(name, source, target)
        for name, service in services.items()
        for entry in service.get("volumes") or ()
        for kind, source, target in [volume_entry(entry)]
        if kind == "bind"
    ]


def volume_entry(entry: Any) -> tuple[str, str, str]:
    """(`bind`, `volume` or another type, source or "", target) of one entry of a service's `volumes`."""
    if isinstance(entry, Mapping):
        return str(entry.get("type", "volume")), str(entry.get("source") or ""), str(entry.get("target", ""))
    parts = str(entry).split(":")
    if len(parts) == 1:
        return "volume", "", parts[0]
    kind = "bind" if parts[0].startswith((".", "/", "~")) else "volume"
    return kind, parts[0], parts[1]


def env_files(services: Services) -> dict[str, tuple[str, ...]]:
    """Service to the files of its environment, relative to the project as written."""
    files = {}
    for name, service in services.items():
        entries = service.get("env_file") or ()
        entries = entries if isinstance(entries, (list, tuple)) else [entries]
        paths = tuple(str(entry["path"]) if isinstance(entry, Mapping) else str(entry) for entry in entries)
        if paths:
            files[name] = paths
    return files


def dependencies(services: Services) -> dict[str, tuple[str, ...]]:
    """Service to the services that it waits for.

    Those of `depends_on`, and those whose network, processes or volumes it shares or whose name it links to: Compose
    starts them first, too.
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
    """Services, in file order, that can only start when the host's directories are mounted.

    Those that bind a path of the project or a path below a mount's target, and those that depend on such a service or
    extend one.
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
