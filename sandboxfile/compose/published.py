"""Reading the published ports of Compose services, which have several forms."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from sandboxfile.diagnostics import quote

_EXAMPLE = 'such as "8080:80"'
MOST_PORTS = 1000


class PortMapping(NamedTuple):
    """One port of a container that is published on `host_port` of the guest; None is any free port."""

    address: str  # an address of the guest, "" for all
    host_port: int | None
    guest_port: int
    protocol: str  # tcp, udp or sctp


def parse_ports(entry: Any) -> list[PortMapping]:
    """Read an entry of a service's `ports`: short (`"127.0.0.1:8080:80/tcp"`, a range, a number) or long (a mapping).

    Raises ValueError. Its text is a message for people, in some cases followed by "; " and a hint.
    """
    if isinstance(entry, dict):
        return _long(entry)
    if isinstance(entry, bool) or not isinstance(entry, (int, str)):
        raise ValueError(f"must be [ADDRESS:][HOST:]CONTAINER[/PROTOCOL], got {quote(entry)}; {_EXAMPLE}")
    text = str(entry)
    ports, slash, protocol = text.partition("/")
    parts = ports.rsplit(":", 2)
    address = parts[0].removeprefix("[").removesuffix("]") if len(parts) == 3 else ""
    if address and not is_address(address):
        raise ValueError(f"has no valid address before the ports: {quote(entry)}; {_EXAMPLE}")
    if ":" in address and not parts[0].startswith("["):
        raise ValueError(f"needs brackets around the address: {quote(entry)}; such as [::1]:8080:80")
    host = parts[-2] if len(parts) > 1 else ""
    return _expand(entry, address, "" if host == "0" else host, parts[-1], protocol if slash else "tcp")


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    from ipaddress import ip_address  # here, since it is seldom needed

    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _long(entry: dict[str, Any]) -> list[PortMapping]:
    unknown = set(entry) - {"target", "published", "host_ip", "protocol", "mode", "name", "app_protocol"}
    if unknown - {key for key in unknown if key.startswith("x-")}:
        raise ValueError(
            f"has the unknown key {quote(min(unknown))}; the keys are target, published, host_ip, protocol"
        )
    if "target" not in entry:
        raise ValueError("needs a target: the container's port; such as {target: 80, published: 8080}")
    published = entry.get("published")
    host = "" if published in (None, "", "0", 0) else str(published)
    return _expand(entry, str(entry.get("host_ip", "")), host, str(entry["target"]), str(entry.get("protocol", "tcp")))


def _expand(entry: Any, address: str, host: str, guest: str, protocol: str) -> list[PortMapping]:
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"has the unknown protocol {quote(protocol)}; tcp, udp or sctp")
    guest_ports = _range(entry, guest)
    if not host:
        return [PortMapping(address, None, port, protocol) for port in guest_ports]
    host_ports = _range(entry, host)
    if len(host_ports) != len(guest_ports):
        message = f"has {len(host_ports)} host ports for {len(guest_ports)} container ports: {_written(entry)}"
        if len(guest_ports) == 1:  # which one Compose takes would differ from one `up` to the next
            way = f"write one of them, such as {host_ports[0]}:{guest}; Compose would take one that is free"
            raise ValueError(f"{message}; {way}")
        raise ValueError(f"{message}; both ranges must have the same length")
    pairs = zip(host_ports, guest_ports, strict=True)
    return [PortMapping(address, host_port, guest_port, protocol) for host_port, guest_port in pairs]


def _written(entry: Any) -> str:
    """The entry as the short form has it."""
    if not isinstance(entry, dict):
        return quote(entry)
    published = entry.get("published")
    return quote(f"{'' if published is None else f'{published}:'}{entry['target']}")


def _range(entry: Any, text: str) -> range:
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    if match is None:
        if isinstance(entry, dict):
            raise ValueError(f"ports are numbers or ranges, got {quote(text)}; such as {{target: 80, published: 8080}}")
        raise ValueError(f"must be [ADDRESS:][HOST:]CONTAINER[/PROTOCOL], got {quote(entry)}; {_EXAMPLE}")
    first = int(match.group(1))
    last = int(match.group(2) or first)
    if not (1 <= first <= last <= 65535):
        raise ValueError(f"ports are numbers from 1 to 65535, got {quote(text)}; {_EXAMPLE}")
    if last - first >= MOST_PORTS:
        raise ValueError(f"a range may have at most {MOST_PORTS} ports, got {quote(text)}")
    return range(first, last + 1)
