"""The program: `python3 -I -S -B /usr/lib/sandbox/guestd --port PORT`.

Python runs a directory's `__main__` outside of any package and puts the directory itself on sys.path. There `.loop` is
relative to nothing, and our `docker` or `process` would be top-level names, before those of the standard library. So
the directory makes room for its parent, which stands last, and the package gets the name of the folder, as PEP 366
describes. On the host the same files are `vmm.guest.guestd`, and nothing of this happens.
"""

from __future__ import annotations

import argparse
import os
import pwd
import socket
import sys

if not __package__:
    _folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != _folder] + [os.path.dirname(_folder)]
    __package__ = os.path.basename(_folder)

from .accounts import DEFAULT_PATH
from .freezer import thaw
from .loop import Loop


def notify_ready() -> None:
    """Tell systemd that the port is open and read."""
    if path := os.environ.pop("NOTIFY_SOCKET", ""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="guestd", description="the sandbox guest's daemon")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", help="a virtio-serial port, such as /dev/virtio-ports/org.sandbox.agent")
    where.add_argument("--fd", type=int, help="an inherited socket")
    options = parser.parse_args()
    pwd.getpwuid(0)  # loads the C library's modules for it now, so that a snapshot holds them warm
    os.environ.setdefault("PATH", DEFAULT_PATH)
    thaw()  # what another guestd has frozen that ended before it could do so
    if options.port:
        fd = os.open(options.port, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    else:
        fd = options.fd
        os.set_inheritable(fd, False)
    loop = Loop(fd, is_port=options.port is not None)
    notify_ready()
    loop.run()
    sys.stderr.flush()
    os._exit(0)  # a worker that is stuck in a dead mount must not hold us


if __name__ == "__main__":
    main()
