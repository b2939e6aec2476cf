"""Checks across the sections of a file. Each section must be valid by itself before they are made."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sandboxfile.checks.contradictions import check_contradictions
from sandboxfile.checks.host_ports import published
from sandboxfile.checks.presets import check_presets
from sandboxfile.checks.rules import allows, check_rules
from sandboxfile.compose.absent import check_absent
from sandboxfile.compose.agreement import named_services
from sandboxfile.compose.drivers import check_drivers
from sandboxfile.compose.images import DOCKER_HUB, image_endpoints, image_hosts
from sandboxfile.compose.services import additional_contexts, build_contexts, dependencies, env_files, volume_entry
from sandboxfile.diagnostics import Problem, did_you_mean, quote
from sandboxfile.positions import KeyPath, render_path
from sandboxfile.sections.model import Sandbox
from sandboxfile.sections.mounts import Mount


def check_references(sandbox: Sandbox, wrong: Collection[str] = ()) -> list[Problem]:
    """All problems between the parts of the file.

    Some sections may be `wrong`, and so not in `sandbox`: what they take part in is not checked. With a section of an
    unknown name, no section is checked against another, since it may be the other one.
    """
    unknown = not set(wrong) <= _SECTIONS
    checks = [
        check for check, sections in _CHECKS if not set(sections) & set(wrong) and not (unknown and len(sections) > 1)
    ]
    return [problem for check in checks for problem in check(sandbox)]


def _twice(entries: Iterable[tuple[KeyPath, Any, str]]) -> Iterator[Problem]:
    """A problem for each of the (path, key, message) `entries` whose key an earlier entry has."""
    first: dict[Any, KeyPath] = {}
    for path, key, message in entries:
        if key in first:
            yield Problem(path, f"{message}, as {render_path(first[key])} is")
        first.setdefault(key, path)


def _mounts(sandbox: Sandbox) -> Iterator[Problem]:
    yield from _twice(
        (("mounts", index, "target"), mount.target, f"is mounted on {quote(mount.target)}")
        for index, mount in enumerate(sandbox.mounts)
    )
    for index, mount in enumerate(sandbox.mounts):
        yield from _own_directories(index, mount)
        for later, other in enumerate(sandbox.mounts[index + 1 :], index + 1):
            if mount.target.startswith(f"{other.target}/"):
                path = render_path(("mounts", later))
                message = f"is hidden by {path}, which is mounted over it later"
                yield Problem(("mounts", index, "target"), message, f"list it after {path}")


def _own_directories(index: int, mount: Mount) -> Iterator[Problem]:
    for at, path in enumerate(mount.local):
        for other in mount.local[:at]:
            if path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/"):
                what = "is there twice" if path == other else f"and {quote(other)} lie in each other"
                yield Problem(("mounts", index, "local", at), f"{quote(path)} {what}", "one of them is enough")
                break


def _packages(sandbox: Sandbox) -> Iterator[Problem]:
    return _twice((("packages", index), name, f"lists {quote(name)}") for index, name in enumerate(sandbox.packages))


def _secrets(sandbox: Sandbox) -> Iterator[Problem]:
    for index, endpoint in enumerate(sandbox.endpoints):
        if endpoint.secret is not None and endpoint.secret not in sandbox.secrets:
            hint = (
                did_you_mean(endpoint.secret, sandbox.secrets)
                or f"add it: secrets: {{{endpoint.secret}: {{env: NAME}}}}"
            )
            yield Problem(("endpoints", index, "secret"), f"the secret {quote(endpoint.secret)} is not declared", hint)
    for name in sandbox.secrets:
        if not any(endpoint.secret == name for endpoint in sandbox.endpoints):
            hint = f"use it: endpoints: [{{host: ..., secret: {name}}}]"
            yield Problem(("secrets", name), "is used by no endpoint", hint, True, "warning")


def _endpoints(sandbox: Sandbox) -> Iterator[Problem]:
    yield from check_presets(sandbox.endpoints)
    yield from check_rules(sandbox.endpoints)
    yield from _twice(
        (("endpoints", index, "as"), endpoint.as_, f"is named {quote(endpoint.as_)}")
        for index, endpoint in enumerate(sandbox.endpoints)
        if endpoint.as_ is not None
    )


def _contradictions(sandbox: Sandbox) -> Iterator[Problem]:
    return check_contradictions(sandbox.endpoints, sandbox.services)


def _ports(sandbox: Sandbox) -> Iterator[Problem]:
    yield from _twice(
        (("ports", index, "host"), port.host, f"is on host port {port.host}")
        for index, port in enumerate(sandbox.ports)
        if port.host is not None
    )


def _taken(sandbox: Sandbox) -> Iterator[Problem]:
    # A port that a service publishes appears on the host's loopback under the same number.
    taken = {number: path for path, number, mapping in published(sandbox) if mapping.protocol == "tcp"}
    for index, port in enumerate(sandbox.ports):
        if port.host is not None and port.host != port.guest and port.host in taken:
            message = f"host port {port.host} is taken by {render_path(taken[port.host])}"
            yield Problem(("ports", index, "host"), message, "choose another host port")


def _published(sandbox: Sandbox) -> Iterator[Problem]:
    # The host has one loopback address, so a port that is published on two addresses of the guest is there twice.
    return _twice(
        (path, (number, mapping.protocol), f"publishes port {number}/{mapping.protocol}")
        for path, number, mapping in published(sandbox)
    )


def _depends_on(sandbox: Sandbox) -> Iterator[Problem]:
    for name, service in sandbox.services.items():
        needed = service.get("depends_on") or ()
        for index, other in enumerate(needed):
            if other not in sandbox.services:
                path = ("services", name, "depends_on", other if isinstance(needed, dict) else index)
                yield Problem(path, f"there is no service {quote(other)}", did_you_mean(other, sandbox.services), True)


def _cycles(sandbox: Sandbox) -> Iterator[Problem]:
    try:
        TopologicalSorter(dependencies(sandbox.services)).prepare()
    except CycleError as error:
        # graphlib lists a cycle so that each service is needed by the next. People read "a needs b needs a".
        cycle = list(reversed(error.args[1]))
        service = sandbox.services[cycle[0]]
        keys = ["depends_on"] if cycle[1] in (service.get("depends_on") or ()) else []
        keys += [str(path[0]) for path, other in named_services(service) if other == cycle[1]]
        message = f"the services wait for each other: {' -> '.join(cycle)}"
        yield Problem(("services", cycle[0], keys[0]), message, at_key=True)


def _project_paths(sandbox: Sandbox) -> Iterator[Problem]:
    """A problem for each path that is copied into the guest and is not inside the project."""
    for name, context in build_contexts(sandbox.services).items():
        build = sandbox.services[name]["build"]
        path: KeyPath = ("services", name, "build")
        path = (*path, "context") if isinstance(build, dict) and "context" in build else path
        yield from _inside(path, context, "the build context")
        dockerfile = build.get("dockerfile") if isinstance(build, dict) else None
        if isinstance(dockerfile, str) and not dockerfile.startswith("/"):
            yield from _inside(
                ("services", name, "build", "dockerfile"), posixpath.join(context, dockerfile), "the file"
            )
    for one in additional_contexts(sandbox.services):
        yield from _inside(("services", one.service, "build", "additional_contexts", one.key), one.path, "the context")
    for name, files in env_files(sandbox.services).items():
        for index, file in enumerate(files):
            entry = sandbox.services[name]["env_file"]
            at: KeyPath = (
                ("services", name, "env_file", index) if isinstance(entry, list) else ("services", name, "env_file")
            )
            yield from _inside(at, file, "the file")
    for name, service in sandbox.services.items():
        for index, entry in enumerate(service.get("volumes") or ()):
            kind, source, _ = volume_entry(entry)
            if kind == "bind" and not source.startswith(("/", "~")):
                yield from _inside(("services", name, "volumes", index), source, "the mount's source")
    for name, config in sandbox.configs.items():
        if isinstance(config_file := config.get("file"), str):
            yield from _inside(("configs", name, "file"), config_file, "the file")


def _inside(path: KeyPath, text: str, what: str) -> Iterator[Problem]:
    if text.startswith(("/", "~")):
        yield Problem(path, f"{what} must be relative to the project, got {quote(text)}")
    elif posixpath.normpath(text).split("/")[0] == "..":
        yield Problem(path, f"{what} must be inside the project, got {quote(text)}")


def _declared(sandbox: Sandbox) -> Iterator[Problem]:
    """A problem for each volume, network and config that a service uses and that is not declared:

    Compose demands it.
    """
    for name, service in sandbox.services.items():
        for index, entry in enumerate(service.get("volumes") or ()):
            kind, source, _ = volume_entry(entry)
            if kind == "volume" and source:
                yield from _known(("services", name, "volumes", index), source, sandbox.volumes, "volumes")
        networks = service.get("networks") or ()
        for index, network in enumerate(networks):
            path: KeyPath = ("services", name, "networks", network if isinstance(networks, dict) else index)
            yield from _known(path, network, {"default": None, **sandbox.networks}, "networks")
        for index, entry in enumerate(service.get("configs") or ()):
            config = entry.get("source", "") if isinstance(entry, dict) else entry
            yield from _known(("services", name, "configs", index), str(config), sandbox.configs, "configs")


def _absent(sandbox: Sandbox) -> Iterator[Problem]:
    prepared = any("docker" in step.run for step in sandbox.setup)
    return check_absent(sandbox.services, sandbox.networks, sandbox.volumes, sandbox.configs, prepared=prepared)


def _drivers(sandbox: Sandbox) -> Iterator[Problem]:
    return check_drivers(sandbox.services, sandbox.networks, sandbox.volumes, sandbox.configs)


def _pulled(sandbox: Sandbox) -> Iterator[Problem]:
    """A warning for each image that no endpoint allows to pull. No error, since a set-up step may have loaded it."""
    built = {_tagged(service.get("image")) for service in sandbox.services.values() if service.get("build") is not None}
    for name, service in sandbox.services.items():
        image = service.get("image")
        if _tagged(image) in built or service.get("pull_policy") in ("never", "build"):
            continue
        hosts = image_hosts(str(image or ""))
        missing = [host for host in hosts if not allows(sandbox.endpoints, host)]
        if missing:
            source = "Docker Hub" if hosts == DOCKER_HUB else hosts[0]
            hint = f"sandbox add endpoint {' '.join(image_endpoints(str(image)))}"
            message = f"comes from {source}, which no endpoint allows"
            yield Problem(("services", name, "image"), message, hint, severity="warning")


def _tagged(image: Any) -> str:
    return str(image or "").removesuffix(":latest")


def _known(path: KeyPath, name: str, declared: Iterable[str], section: str) -> Iterator[Problem]:
    if name not in declared:
        hint = did_you_mean(name, declared) or f"add it: {section}: {{{name}: {{}}}}"
        yield Problem(path, f"{quote(name)} is not declared in `{section}`", hint, True)


_COMPOSE = ("services", "volumes", "networks", "configs")
_CHECKS: tuple[tuple[Callable[[Sandbox], Iterable[Problem]], tuple[str, ...]], ...] = (
    (_mounts, ("mounts",)),
    (_packages, ("packages",)),
    (_secrets, ("endpoints", "secrets")),
    (_endpoints, ("endpoints",)),
    (_contradictions, ("endpoints", "services")),
    (_ports, ("ports",)),
    (_taken, ("ports", "services")),
    (_published, ("services",)),
    (_depends_on, ("services",)),
    (_cycles, ("services",)),
    (_project_paths, ("services", "configs")),
    (_declared, _COMPOSE),
    (_absent, (*_COMPOSE, "setup")),
    (_drivers, _COMPOSE),
    (_pulled, ("endpoints", "services")),
)
_SECTIONS = frozenset(field.alias or name for name, field in Sandbox.model_fields.items())
