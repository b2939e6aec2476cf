"""A guest without a machine: a network namespace with the real TCP of this kernel, whose only card is the wire.

A script: `wire_guest.py STREAM COMMAND...` runs the command in it, and ends with its code. Needs /dev/net/tun.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SETTINGS = (
    "link set lo up",
    "link set eth0 address 52:54:00:12:34:56",
    "link set eth0 up",
    "address add 10.0.2.15/24 dev eth0",
    "route add default via 10.0.2.2",
)


def send(card: int, stream: socket.socket) -> None:
    while True:
        frame = os.read(card, 1 << 17)
        stream.sendall(struct.pack("!I", len(frame)) + frame)


def receive(card: int, stream: socket.socket) -> None:
    data = b""
    while more := stream.recv(1 << 18):
        data += more
        at = 0
        while len(data) - at >= 4 and len(data) - at - 4 >= (length := struct.unpack_from("!I", data, at)[0]):
            os.write(card, data[at + 4 : at + 4 + length])
            at += 4 + length
        data = data[at:]


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from vmm import empty_network

    empty_network.enter()
    card = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(card, TUNSETIFF, struct.pack("=16sH22x", b"eth0", IFF_TAP | IFF_NO_PI))
    for setting in SETTINGS:
        subprocess.run(["ip", *setting.split()], check=True)
    stream = socket.socket(fileno=int(sys.argv[1]))
    stream.setblocking(True)
    for work in (send, receive):
        threading.Thread(target=work, args=(card, stream), daemon=True).start()
    # The threads wait for frames that may never come.
    os._exit(subprocess.run(sys.argv[2:], check=False).returncode)


if __name__ == "__main__":
    main()
