"""Run by root in the guest: `echo_probe.py ADDRESS...` sends ICMP echoes from a raw socket; who answered, as JSON.

ARP and ICMP are spoken here and not by the guest's tools: what a tool that is not there says proves nothing.
"""

import json
import os
import select
import socket
import struct
import sys
import time

WAIT_S = 3.0


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo(address, mark):
    """Whether an echo reply with our mark comes back, from wherever."""
    head = struct.pack("!BBHHH", 8, 0, 0, mark, 1)
    body = os.urandom(16)
    packet = struct.pack("!BBHHH", 8, 0, checksum(head + body), mark, 1) + body
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        try:
            raw.sendto(packet, (address, 0))
        except OSError as error:
            return f"not sent: {error.strerror}"
        deadline = time.monotonic() + WAIT_S
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([raw], [], [], left)[0]:
                break
            answer, (source, _) = raw.recvfrom(2048)
            icmp = answer[(answer[0] & 15) * 4 :]
            kind, _, _, seen, _ = struct.unpack("!BBHHH", icmp[:8])
            if kind == 0 and seen == mark and icmp[8:] == body:
                return f"answered by {source}"
            if kind == 3:
                return f"unreachable, says {source}"
    return "silence"


print(json.dumps({address: echo(address, 1000 + number) for number, address in enumerate(sys.argv[1:])}))
