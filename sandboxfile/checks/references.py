"""Checks across sections, made when every section is valid by itself."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sandboxfile.checks.rules import allows, check_rules
from sandboxfile.compose.agreement import named_services
from sandboxfile.compose.images import DOCKER_HUB, image_hosts
from sandboxfile.compose.published import parse_ports
from sandboxfile.compose.services import additional_contexts, build_contexts, dependencies, env_files, volume_entry
from sandboxfile.diagnostics import Problem, did_you_mean, quote
from sandboxfile.positions import KeyPath, render_path
from sandboxfile.sections.model import Sandbox


def check_references(sandbox: Sandbox) -> list[Problem]:
    """Everything that is wrong between the parts of the file."""
    checks = (
        *(_mounts, _packages, _endpoints, _ports, _published),
        *(_depends_on, _cycles, _project_paths, _declared, _pulled),
    )
    return [problem for check in checks for problem in check(sandbox)]


def _twice(entries: Iterable[tuple[KeyPath, Any, str]]) -> Iterator[Problem]:
    """A problem for each entry whose key an earlier one has."""
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
        for later, other in enumerate(sandbox.mounts[index + 1 :], index + 1):
            if mount.target.startswith(f"{other.target}/"):
                path = render_path(("mounts", later))
                message = f"is hidden by {path}, which is mounted over it later"
                yield Problem(("mounts", index, "target"), message, f"list it after {path}")


def _packages(sandbox: Sandbox) -> Iterator[Problem]:
    return _twice((("packages", index), name, f"lists {quote(name)}") for index, name in enumerate(sandbox.packages))


def _endpoints(sandbox: Sandbox) -> Iterator[Problem]:
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
    yield from check_rules(sandbox.endpoints)
    yield from _twice(
        (("endpoints", index, "as"), endpoint.as_, f"is named {quote(endpoint.as_)}")
        for index, endpoint in enumerate(sandbox.endpoints)
        if endpoint.as_ is not None
    )


def _ports(sandbox: Sandbox) -> Iterator[Problem]:
    yield from _twice(
        (("ports", index, "host"), port.host, f"is on host port {port.host}")
        for index, port in enumerate(sandbox.ports)
        if port.host is not None
    )
    # A published port appears on the host's loopback under its own number.
    taken = {mapping.host_port: path for path, mapping in _mappings(sandbox) if mapping.protocol == "tcp"}
    for index, port in enumerate(sandbox.ports):
        if port.host is not None and port.host != port.guest and port.host in taken:
            message = f"host port {port.host} is taken by {render_path(taken[port.host])}"
            yield Problem(("ports", index, "host"), message, "choose another host port")


def host_ports(sandbox: Sandbox) -> list[tuple[KeyPath, int]]:
    """(path, port) of everything that the host's loopback is to offer under a number of its own."""
    wanted: list[tuple[KeyPath, int]] = [
        (("ports", index), port.host) for index, port in enumerate(sandbox.ports) if port.host is not None
    ]
    wanted += [(path, mapping.host_port) for path, mapping in _mappings(sandbox) if mapping.protocol == "tcp"]
    return wanted


def _mappings(sandbox: Sandbox) -> Iterator[tuple[KeyPath, Any]]:
    for name, service in sandbox.services.items():
        for index, entry in enumerate(service.get("ports") or ()):
            for mapping in parse_ports(entry):
                if mapping.host_port is not None:
                    yield ("services", name, "ports", index), mapping


def _published(sandbox: Sandbox) -> Iterator[Problem]:
    # The host's side has one loopback address, so two addresses of the guest do not make two ports.
    return _twice(
        (path, (mapping.host_port, mapping.protocol), f"publishes port {mapping.host_port}/{mapping.protocol}")
        for path, mapping in _mappings(sandbox)
    )


def _depends_on(sandbox: Sandbox) -> Iterator[Problem]:
    for name, service in sandbox.services.items():
        wanted = service.get("depends_on") or ()
        for index, other in enumerate(wanted):
            if other not in sandbox.services:
                path = ("services", name, "depends_on", other if isinstance(wanted, dict) else index)
                yield Problem(path, f"there is no service {quote(other)}", did_you_mean(other, sandbox.services), True)


def _cycles(sandbox: Sandbox) -> Iterator[Problem]:
    try:
        TopologicalSorter(dependencies(sandbox.services)).prepare()
    except CycleError as error:
        # The library lists it as "each is a predecessor of the next"; people read "a needs b needs a".
        cycle = list(reversed(error.args[1]))
        service = sandbox.services[cycle[0]]
        keys = ["depends_on"] if cycle[1] in (service.get("depends_on") or ()) else []
        keys += [str(path[0]) for path, other in named_services(service) if other == cycle[1]]
        message = f"the services wait for each other: {' -> '.join(cycle)}"
        yield Problem(("services", cycle[0], keys[0]), message, at_key=True)


def _project_paths(sandbox: Sandbox) -> Iterator[Problem]:
    """Files of the project that are copied into the guest must be inside the project."""
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
    """Volumes, networks and configs that a service uses must be declared, as Compose demands."""
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


def _pulled(sandbox: Sandbox) -> Iterator[Problem]:
    """Images that no endpoint lets through. A warning: a set-up step may have loaded them."""
    built = {_tagged(service.get("image")) for service in sandbox.services.values() if service.get("build") is not None}
    for name, service in sandbox.services.items():
        image = service.get("image")
        if _tagged(image) in built or service.get("pull_policy") in ("never", "build"):
            continue
        hosts = image_hosts(str(image or ""))
        missing = [host for host in hosts if not allows(sandbox.endpoints, host)]
        if missing:
            source = "Docker Hub" if hosts == DOCKER_HUB else hosts[0]
            hint = f"sandbox add endpoint {' '.join(missing)}"
            message = f"comes from {source}, which no endpoint allows"
            yield Problem(("services", name, "image"), message, hint, severity="warning")


def _tagged(image: Any) -> str:
    return str(image or "").removesuffix(":latest")


def _known(path: KeyPath, name: str, declared: Iterable[str], section: str) -> Iterator[Problem]:
    if name not in declared:
        hint = did_you_mean(name, declared) or f"add it: {section}: {{{name}: {{}}}}"
        yield Problem(path, f"{quote(name)} is not declared in `{section}`", hint, True)
