"""Which addresses the gateway connects to on the guest's behalf. Everything local to the host or its networks is out.

The lists are our own: `ipaddress.is_private` also says yes to the documentation ranges, which some networks route.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(kind: str, *texts: str) -> list[tuple[_Network, str]]:
    return [(ipaddress.ip_network(text), kind) for text in texts]


# A rule with `private` may reach these.
_PRIVATE = [
    *_networks("private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    *_networks("shared (carrier-grade NAT)", "100.64.0.0/10"),
]

# Nothing may reach these. Metadata services first: some live inside ranges that are only private.
_FORBIDDEN = [
    *_networks("cloud metadata", "169.254.169.254/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
    *_networks("cloud metadata", "fd00:ec2::254/128", "fd20:ce::254/128", "fe80::a9fe:a9fe/128"),
    *_networks("loopback", "127.0.0.0/8", "::1/128"),
    *_networks("unspecified", "0.0.0.0/8", "::/128"),
    *_networks("link-local", "169.254.0.0/16", "fe80::/10"),
    *_networks("site-local", "fec0::/10"),
    *_networks("multicast", "224.0.0.0/4", "ff00::/8"),
    *_networks("reserved", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4", "100::/64"),
    *_networks("locally translated (NAT64)", "64:ff9b:1::/48"),
]

# Prefixes that carry an IPv4 address, and the bit at which it starts, counted from the right.
_EMBEDDING = [
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated
    (ipaddress.IPv6Network("::/96"), 0),  # IPv4-compatible, obsolete
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4
]
_TEREDO = ipaddress.IPv6Network("2001::/32")


def forbidden_kind(text: str, *, private: bool = False) -> str | None:
    """Why this address must not be connected to ("loopback", "private", ...), or None when it may.

    `private` permits private networks, and nothing else. Text that is no address is "malformed".
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "malformed"
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "link-local"
    candidates = list(_embedded(address))
    kinds = _FORBIDDEN if private else _FORBIDDEN + _PRIVATE
    for candidate in candidates:
        for network, kind in kinds:
            if candidate.version == network.version and candidate in network:
                return kind
    return None


def _embedded(address: _Address) -> Iterable[_Address]:
    """The address itself and every IPv4 address that it stands for."""
    yield address
    if not isinstance(address, ipaddress.IPv6Address):
        return
    for network, shift in _EMBEDDING:
        # ::1 and :: are in ::/96 too; as IPv4 they read 0.0.0.1 and 0.0.0.0, which are forbidden as well.
        if address in network:
            yield ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    if address in _TEREDO:
        yield from address.teredo or ()
