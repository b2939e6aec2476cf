"""The ports of the host that a file asks for, each with its place in the file. Several checks need them."""

from __future__ import annotations

from collections.abc import Iterator

from sandboxfile.compose.published import PortMapping, parse_ports
from sandboxfile.positions import KeyPath
from sandboxfile.sections.model import Sandbox


def host_ports(sandbox: Sandbox) -> list[tuple[KeyPath, int]]:
    """(path, port) of each port of the host's loopback whose number the file decides."""
    ports: list[tuple[KeyPath, int]] = [
        (("ports", index), port.host) for index, port in enumerate(sandbox.ports) if port.host is not None
    ]
    # A port that a service publishes by TCP appears on the host's loopback under the same number.
    ports += [(path, number) for path, number, mapping in published(sandbox) if mapping.protocol == "tcp"]
    return ports


def published(sandbox: Sandbox) -> Iterator[tuple[KeyPath, int, PortMapping]]:
    """(path, number, mapping) of each port that a service publishes under a number that the file decides."""
    for name, service in sandbox.services.items():
        for index, entry in enumerate(service.get("ports") or ()):
            for mapping in parse_ports(entry):
                if mapping.host_port is not None:
                    yield ("services", name, "ports", index), mapping.host_port, mapping
