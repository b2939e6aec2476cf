"""Frames made by hand, for attempts below TCP. What comes back is told by who sent it."""

from __future__ import annotations

import select
import socket
import struct
import time
from pathlib import Path

ME = "10.0.2.15"
_GATEWAY_MAC = bytes([0x52, 0x55, 10, 0, 2, 2])
_ALL = b"\xff" * 6
_OUTGOING = 4


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Wire:
    """The guest's network card as root has it. `heard` is what came back, each thing once."""

    ALL = _ALL

    def __init__(self, mac: bytes | None = None) -> None:
        card = next(path for path in Path("/sys/class/net").iterdir() if (path / "device").exists())
        self.mac = mac or bytes.fromhex((card / "address").read_text().strip().replace(":", ""))
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind((card.name, 0))
        self._router = self._find_router()
        self.heard: set[str] = set()

    def _find_router(self) -> bytes:
        """The neighbour that packets go to: whoever carries them may have any address."""
        for line in Path("/proc/net/arp").read_text().splitlines()[1:]:
            words = line.split()
            if words[0] in ("10.0.2.2", "10.0.2.100") and words[3] != "00:00:00:00:00:00":
                return bytes.fromhex(words[3].replace(":", ""))
        return _GATEWAY_MAC

    def ip(
        self,
        payload: bytes,
        protocol: int,
        to: str,
        source: str = ME,
        ttl: int = 64,
        flags: int = 0,
        options: bytes = b"",
    ) -> bytes:
        words = 5 + len(options) // 4
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x40 | words, 0, words * 4 + len(payload), 0x1234, flags, ttl, protocol, 0,
            socket.inet_aton(source), socket.inet_aton(to),
        )  # fmt: skip
        head += options
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload

    def udp(self, to: str, port: int, data: bytes = b"out", source: str = ME, **options: int | bytes) -> bytes:
        head = struct.pack("!HHHH", 4444, port, 8 + len(data), 0)
        sum_ = checksum(self._pseudo(source, to, 17, len(head + data)) + head + data) or 0xFFFF
        return self.ip(head[:6] + struct.pack("!H", sum_) + data, 17, to, source, **options)  # type: ignore[arg-type]

    def tcp(self, to: str, port: int, flags: int = 2, source: str = ME, at: int = 40001) -> bytes:
        head = struct.pack("!HHIIBBHHH", at, port, 1000, 0, 5 << 4, flags, 8192, 0, 0)
        sum_ = checksum(self._pseudo(source, to, 6, len(head)) + head)
        return self.ip(head[:16] + struct.pack("!H", sum_) + head[18:], 6, to, source)

    def echo(self, to: str, source: str = ME, kind: int = 8) -> bytes:
        head = struct.pack("!BBHHH", kind, 0, 0, 1, 1) + b"abcdefgh"
        return self.ip(head[:2] + struct.pack("!H", checksum(head)) + head[4:], 1, to, source)

    def arp(self, operation: int, source: str, to: str) -> bytes:
        head = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation)
        return head + self.mac + socket.inet_aton(source) + b"\0" * 6 + socket.inet_aton(to)

    def ip6(self, payload: bytes, following: int, to: str, source: str = "fe80::5054:ff:fe12:3456") -> bytes:
        addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to)
        if following == 58:
            sum_ = checksum(addresses + struct.pack("!II", len(payload), 58) + payload)
            payload = payload[:2] + struct.pack("!H", sum_) + payload[4:]
        return struct.pack("!IHBB", 6 << 28, len(payload), following, 255) + addresses + payload

    def send(self, payload: bytes, kind: int = 0x800, to: bytes | None = None) -> None:
        self._socket.send((to or self._router) + self.mac + struct.pack("!H", kind) + payload)

    def listen(self, seconds: float = 0.7) -> str:
        """Wait for answers, and say what was heard from the beginning; "nothing" is the best."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                frame, address = self._socket.recvfrom(65535)
                if address[2] != _OUTGOING:
                    self.heard.add(describe(frame))
        return "; ".join(sorted(self.heard - {"other"})) or "nothing"

    def _pseudo(self, source: str, to: str, protocol: int, size: int) -> bytes:
        return socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!BBH", 0, protocol, size)


def describe(frame: bytes) -> str:
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind == 0x806:
        return f"arp from {socket.inet_ntoa(frame[28:32])}"
    if kind == 0x86DD:
        return f"ipv6 from {socket.inet_ntop(socket.AF_INET6, frame[22:38])}"
    if kind != 0x800:
        return f"ethertype {kind:04x}"
    protocol, start = frame[23], 14 + (frame[14] & 15) * 4
    source = socket.inet_ntoa(frame[26:30])
    if protocol == 6:
        flags, port = frame[start + 13], struct.unpack("!H", frame[start : start + 2])[0]
        if flags & 0x12 == 0x12:
            return f"tcp open {source}:{port}"
        return f"tcp closed {source}" if flags & 4 else "other"
    names = {1: "icmp", 17: "udp"}
    port = f":{struct.unpack('!H', frame[start : start + 2])[0]}" if protocol == 17 else ""
    return f"{names.get(protocol, f'protocol {protocol}')} from {source}{port}"
