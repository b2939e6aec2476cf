"""What services ask of Docker, and the Docker of a machine cannot give: it is new, and the machine has no such device.

Docker or Compose would refuse each of these in the guest, after minutes, when the service is to start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sandboxfile.compose.services import is_bound, volume_entry
from sandboxfile.diagnostics import Problem, quote
from sandboxfile.positions import KeyPath

# Devices of hosts that no machine has. Others, such as /dev/fuse and /dev/net/tun, are there.
_NO_DEVICE = re.compile(
    r"/dev/(kvm|kfd|dri|nvidia|snd|video|media|tty(USB|ACM)|bus/usb|input|usb|serial|sg[0-9]|i2c|gpio)"
)
_CDI = re.compile(r"[a-z0-9.-]+/[a-z0-9._-]+=.+")
_OF_CONTAINERS = ("network_mode", "pid", "ipc")
_BUILD_ONLY = {"secrets": "no credential enters the machine", "ssh": "no key of yours enters the machine"}


def check_absent(
    services: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Any],
    volumes: Mapping[str, Any],
    configs: Mapping[str, Any],
    *,
    prepared: bool,
) -> Iterator[Problem]:
    """A problem for each thing that is never there. `prepared`: a set-up step may have made networks and volumes."""
    names: dict[str, str] = {}
    for name, service in services.items():
        container = service.get("container_name")
        if not isinstance(container, str) or not container:
            continue
        if container in names:
            message = f"{quote(container)} is the name of the container of {quote(names[container])} already"
            yield Problem(("services", name, "container_name"), message, "remove it, or choose another")
        names.setdefault(container, name)
    for name, service in services.items():
        place: KeyPath = ("services", name)
        yield from _build(place, service.get("build"))
        yield from _devices(place, service)
        yield from _containers(place, service, names)
        if (isolation := service.get("isolation")) not in (None, "", "default"):
            message = f"there is no isolation {quote(isolation)} on Linux"
            yield Problem((*place, "isolation"), message, "remove it", False, "warning")
        if (runtime := service.get("runtime")) not in (None, "", "runc", "io.containerd.runc.v2"):
            message = f"the machine's Docker has no runtime {quote(runtime)}: there is only runc"
            yield Problem((*place, "runtime"), message, "remove it", False, "warning")
    if not prepared:
        yield from _external("networks", networks, _used_networks(services))
        yield from _external("volumes", volumes, _used_volumes(services))
    yield from _bound_volumes(volumes, _used_volumes(services))
    for name, config in configs.items():
        if isinstance(config, dict) and config.get("external"):
            message = "there are no configs that were made elsewhere: the machine has a Docker of its own"
            yield Problem(("configs", name, "external"), message, "give it a `file` or `content`", at_key=True)


def _external(section: str, entries: Mapping[str, Any], used: set[str]) -> Iterator[Problem]:
    for name, entry in entries.items():
        if name in used and isinstance(entry, dict) and entry.get("external") not in (None, False, "false"):
            kind = section.removesuffix("s")
            message = f"there is no {kind} that was made elsewhere: the machine has a new Docker of its own"
            hint = f"remove `external`, or lay over it: {section}: {{{name}: {{external: false}}}}"
            yield Problem((section, name, "external"), message, hint, at_key=True)


def _bound_volumes(volumes: Mapping[str, Any], used: set[str]) -> Iterator[Problem]:
    """A volume that is a directory of the project: in the guest its path would start somewhere else."""
    for name, volume in volumes.items():
        options = volume.get("driver_opts") if isinstance(volume, dict) else None
        if name in used and is_bound(options) and not str(options.get("device") or "").startswith("/"):
            message = "a volume cannot be a directory of the project, only one of the machine"
            hint = f"bind it in each service that uses {name}, such as volumes: [./data:/data]"
            yield Problem(("volumes", name, "driver_opts", "device"), message, hint)


def _used_networks(services: Mapping[str, Mapping[str, Any]]) -> set[str]:
    used = {str(network) for service in services.values() for network in service.get("networks") or ()}
    # A service without `networks` is in the one that is called default, unless it has a `network_mode`.
    alone = any(not service.get("networks") and not service.get("network_mode") for service in services.values())
    return used | {"default"} if alone else used


def _used_volumes(services: Mapping[str, Mapping[str, Any]]) -> set[str]:
    entries = (volume_entry(entry) for service in services.values() for entry in service.get("volumes") or ())
    return {source for kind, source, _ in entries if kind == "volume" and source}


def _build(place: KeyPath, build: Any) -> Iterator[Problem]:
    for key, reason in _BUILD_ONLY.items() if isinstance(build, dict) else ():
        if build.get(key):
            message = f"builds cannot be given {key}: {reason}"
            hint = "an endpoint with a `secret` lets a build reach a private registry or repository"
            yield Problem((*place, "build", key), message, hint, at_key=True)
    for key in ("cache_from", "cache_to") if isinstance(build, dict) else ():
        entries = build.get(key)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if "type=gha" in str(entry).split(","):
                message = "has no effect: the cache of GitHub Actions is not there in the machine"
                yield Problem((*place, "build", key, index), message, None, False, "warning")


def _devices(place: KeyPath, service: Mapping[str, Any]) -> Iterator[Problem]:
    for index, entry in enumerate(service.get("devices") or ()):
        text = str(entry.get("source", "")) if isinstance(entry, dict) else str(entry).split(":")[0]
        if _NO_DEVICE.match(text) or _CDI.fullmatch(str(entry)):
            message = f"the machine has no {text or entry}"
            yield Problem((*place, "devices", index), message, "remove it", False, "warning")
    path: KeyPath = ("deploy", "resources", "reservations", "devices")
    reserved: Any = service
    for key in path:
        reserved = reserved.get(str(key)) if isinstance(reserved, dict) else None
    for index, _ in enumerate(reserved if isinstance(reserved, list) else ()):
        message = "there is no GPU in the machine, nor another such device"
        yield Problem((*place, *path, index), message, "remove it", False, "warning")


def _containers(place: KeyPath, service: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Problem]:
    found: list[tuple[KeyPath, str]] = [
        ((key,), value.removeprefix("container:"))
        for key in _OF_CONTAINERS
        if isinstance(value := service.get(key), str) and value.startswith("container:")
    ]
    for index, entry in enumerate(service.get("volumes_from") or ()):
        if isinstance(entry, str) and entry.startswith("container:"):
            found.append((("volumes_from", index), entry.split(":")[1]))
    for index, entry in enumerate(service.get("external_links") or ()):
        found.append((("external_links", index), str(entry).split(":")[0]))
    for path, container in found:
        if container not in names:
            message = f"there is no container {quote(container)}: the machine has the services of this file alone"
            hint = "name a service: service:NAME" if len(path) == 1 else None
            yield Problem((*place, *path), message, hint, False, "warning")
