"""Ethernet frames as a hostile guest's kernel would send them, and what came back of whom. Standard library only."""

from __future__ import annotations

import socket
import struct

GUEST_MAC = bytes.fromhex("525400123456")
ROUTER_MAC = bytes.fromhex("9a559a559a55")  # passt's default; it takes frames for any
BROADCAST = b"\xff" * 6
IP4, ARP, IP6 = 0x0800, 0x0806, 0x86DD
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
ALL_NODES, ALL_ROUTERS = "ff02::1", "ff02::2"
SLIRP, METADATA, PUBLIC = "10.0.2.3", "169.254.169.254", "1.1.1.1"
NAMES = {ICMP: "icmp", UDP: "udp", ICMP6: "icmp6"}
SYN, RST = 0x02, 0x04


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(kind: int, payload: bytes, to: bytes = ROUTER_MAC, source: bytes = GUEST_MAC) -> bytes:
    return to + source + struct.pack("!H", kind) + payload


def arp_request(address: str, source: str = "10.0.2.15") -> bytes:
    head = struct.pack("!HHBBH", 1, IP4, 6, 4, 1)
    return ethernet(
        ARP, head + GUEST_MAC + socket.inet_aton(source) + bytes(6) + socket.inet_aton(address), to=BROADCAST
    )


def ip4(protocol: int, payload: bytes, to: str, source: str = "10.0.2.15", options: bytes = b"") -> bytes:
    words = 5 + len(options) // 4
    size = 4 * words + len(payload)
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, size, 7, 0, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(to) + options
    return ethernet(IP4, head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload)


def ip6(protocol: int, payload: bytes, to: str, source: str = "fe80::1234") -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255)
    return ethernet(
        IP6, head + socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to) + payload
    )


def pseudo(protocol: int, payload: bytes, to: str, source: str) -> bytes:
    """What the checksums of TCP, UDP and ICMPv6 cover beside their own packet."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, to)
    return ends + (
        struct.pack(
            "!I3xB" if ":" in to else "!xBH", *((len(payload), protocol) if ":" in to else (protocol, len(payload)))
        )
    )


def tcp_syn(to: str, port: int, source: str = "10.0.2.15", source_port: int = 40000) -> bytes:
    bare = struct.pack("!HHIIBBHHH", source_port, port, 1000, 0, 5 << 4, SYN, 64000, 0, 0)
    filled = bare[:16] + struct.pack("!H", checksum(pseudo(TCP, bare, to, source) + bare)) + bare[18:]
    return ip6(TCP, filled, to, source) if ":" in to else ip4(TCP, filled, to, source)


def udp(to: str, port: int, payload: bytes, source: str = "10.0.2.15", source_port: int = 40000) -> bytes:
    bare = struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload
    filled = bare[:6] + struct.pack("!H", checksum(pseudo(UDP, bare, to, source) + bare)) + bare[8:]
    return ip6(UDP, filled, to, source) if ":" in to else ip4(UDP, filled, to, source)


def echo(to: str, source: str = "10.0.2.15") -> bytes:
    bare = struct.pack("!BBHHH", 8, 0, 0, 77, 1) + b"hello"
    return ip4(ICMP, bare[:2] + struct.pack("!H", checksum(bare)) + bare[4:], to, source)


def icmp6(kind: int, body: bytes, to: str, source: str = "fe80::1234") -> bytes:
    bare = struct.pack("!BBH", kind, 0, 0) + body
    return ip6(
        ICMP6, bare[:2] + struct.pack("!H", checksum(pseudo(ICMP6, bare, to, source) + bare)) + bare[4:], to, source
    )


def dhcp_discover() -> bytes:
    body = struct.pack("!BBBBI", 1, 1, 6, 0, 0x1234) + bytes(20) + GUEST_MAC + bytes(202)
    return udp("255.255.255.255", 67, body + bytes.fromhex("63825363350101ff"), source="0.0.0.0", source_port=68)


def dns_question(to: str) -> bytes:
    question = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\7example\3com\0" + struct.pack("!HH", 1, 1)
    return udp(to, 53, question)


def describe(frame: bytes) -> str:
    """What a frame to the guest is, such as "arp", "tcp rst 10.0.2.2:80", "udp 10.0.2.2"."""
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind == ARP:
        return "arp"
    if kind == IP4:
        source, protocol, start = socket.inet_ntoa(frame[26:30]), frame[23], 14 + (frame[14] & 15) * 4
    elif kind == IP6:
        source, protocol, start = socket.inet_ntop(socket.AF_INET6, frame[22:38]), frame[20], 54
    else:
        return f"type {kind:#x}"
    if protocol != TCP:
        return f"{NAMES.get(protocol, protocol)} {source}"
    flags = frame[start + 13]
    name = "rst" if flags & RST else "syn" if flags & SYN else "other"
    return f"tcp {name} {source}:{struct.unpack('!H', frame[start : start + 2])[0]}"


def attempts(port: int) -> dict[str, bytes]:
    """Everything that a guest's kernel could try, but for the gateway; `port` is open on the host's loopback."""
    own = [address for _, _, _, _, (address, *_) in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    addresses = ["127.0.0.1", "0.0.0.0", "10.0.2.2", SLIRP, "10.0.2.100", "10.0.2.101", "10.0.2.15", "10.0.2.255"]
    addresses += ["255.255.255.255", "224.0.0.1", METADATA, "169.254.2.1", "169.254.2.2", PUBLIC, *own]
    tried = {f"tcp {address}:{port}": tcp_syn(address, port) for address in addresses}
    tried |= {f"tcp {address}:8443": tcp_syn(address, 8443, source_port=40001) for address in addresses}
    tried |= {f"echo {address}": echo(address) for address in addresses}
    tried |= {f"udp {address}": udp(address, port, b"x") for address in addresses}
    tried |= {f"dns {address}": dns_question(address) for address in ("10.0.2.2", SLIRP, "10.255.255.53", PUBLIC)}
    tried |= {f"tftp {address}": udp(address, 69, b"\0\1passwd\0octet\0") for address in ("10.0.2.2", SLIRP)}
    tried["dhcp"] = dhcp_discover()
    tried["spoofed 127.0.0.1"] = tcp_syn("127.0.0.1", port, source="127.0.0.1")
    tried["source 10.0.2.100 to itself"] = tcp_syn("10.0.2.100", port, source="10.0.2.100")
    route = bytes.fromhex("8307040a00026400")  # by way of 10.0.2.100
    tried["source route"] = ip4(TCP, tcp_syn(PUBLIC, 80)[34:], PUBLIC, options=route)
    tried["igmp"] = ip4(2, bytes.fromhex("1600e9fce0000016"), "224.0.0.22")
    tried["sctp"] = ip4(132, bytes(32), PUBLIC)
    for to in (ALL_NODES, ALL_ROUTERS, "::1", "fe80::1", "2606:4700:4700::1111"):
        tried |= {f"tcp6 {to}": tcp_syn(to, port, "fe80::1234"), f"udp6 {to}": udp(to, 547, b"\1abc", "fe80::1234")}
        tried |= {f"echo6 {to}": icmp6(128, bytes(8), to)}
    tried["router solicitation"] = icmp6(133, bytes(4), ALL_ROUTERS)
    tried["neighbour solicitation"] = icmp6(135, bytes(4) + socket.inet_pton(socket.AF_INET6, "fe80::1"), ALL_NODES)
    tried["vlan"] = ethernet(0x8100, b"\0\5\x08\0" + tcp_syn("10.0.2.2", 80)[14:])
    return tried
