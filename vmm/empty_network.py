"""Enter an empty network, listen in it, and become another program. Started as a script, by `vmm/carrier.py`.

The network is a namespace of the kernel's with nothing in it but the loopback device. It has no route to anywhere, so
whoever runs in it reaches what listens in it and nothing else, whatever he is told to connect to. Stdlib only.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

from vmm import confine

READY = b"ready"
MEMORY_MOST = 1 << 30  # bytes of its own; passt asks for a fifth of that when it starts, and for no more later
BACKLOG = 1024  # connections that wait to be accepted; the kernel takes its own limit (4096) where that is lower
# linux/sockios.h, linux/if.h
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
IFF_UP, IFF_RUNNING = 0x1, 0x40


def enter() -> None:
    """A network namespace of our own; for an ordinary user within a user namespace of his own. Raises OSError."""
    confine.unshare(confine.CLONE_NEWNET)


def give_addresses(addresses: Sequence[str]) -> None:
    """Loopback comes up, with these IPv4 addresses, and none of their networks, beside its own. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("=16sH14x", b"lo", IFF_UP | IFF_RUNNING))
        for number, address in enumerate(addresses):
            name = f"lo:{number}".encode()
            for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.255.255")):
                packed = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
                fcntl.ioctl(control, request, struct.pack("=16s16s", name, packed))


def listen(address: str, port: int) -> socket.socket:
    """A TCP socket that listens there. Raises OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((address, port))
    listener.listen(BACKLOG)
    return listener


def main() -> None:
    """Be told in one JSON text; answer with READY and the listeners, or with the reason why not; become the program."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    report = socket.socket(fileno=told["report"])
    os.set_inheritable(report.fileno(), False)
    try:
        enter()
        give_addresses(list(dict.fromkeys(address for address, _ in told["doors"])))
        listeners = [listen(address, port) for address, port in told["doors"]]
    except OSError as error:
        report.sendall(str(error).encode())
        sys.exit(1)
    socket.send_fds(report, [READY], [listener.fileno() for listener in listeners])
    confine.close_others({0, 1, 2, report.fileno(), *told["keep"]})
    confine.forbid_core_dumps()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MOST, MEMORY_MOST))
    confine.checked(confine.libc.prctl(confine.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    try:
        os.execv(told["command"][0], told["command"])
    except OSError as error:
        sys.exit(f"cannot run {told['command'][0]}: {error.strerror}")
