"""Runs in the guest, as root: mounts a disk that was just plugged in, and makes links into it. Standard library only.

Its source is sent to the guest's Python (`engine/build/nodes/agent.py`). It is given one JSON argument: the disk's
`serial`, the directory `place` to mount it at, and `links`, from paths to what they lead to.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

KOBJECT_UEVENT, KERNEL_GROUP = 15, 1  # linux/netlink.h: what the kernel tells udev, which this guest does without
DISK_S = 60.0


def main(serial: str, place: str, links: dict[str, str]) -> None:
    device = wait_for_disk(serial)
    os.makedirs(place, exist_ok=True)  # noqa: PTH103
    subprocess.run(["mount", "-t", "erofs", "-o", "ro,nosuid,nodev", device, place], check=True)
    for path, target in links.items():
        link(path, target)


def wait_for_disk(serial: str, block: Path = Path("/sys/block")) -> str:
    """The device of the disk with this serial number, as soon as the kernel has it. Raises SystemExit after DISK_S."""
    deadline = time.monotonic() + DISK_S
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, KOBJECT_UEVENT) as events:
        events.bind((0, KERNEL_GROUP))
        while (device := find_disk(serial, block)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SystemExit(f"the disk {serial} was not there within {DISK_S:.0f} s")
            events.settimeout(left)
            try:
                events.recv(1 << 16)
            except TimeoutError:
                pass
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # then some words were lost, and the next look finds the disk
                    raise
    return device


def find_disk(serial: str, block: Path) -> str | None:
    for disk in sorted(block.glob("vd*")):
        try:
            if (disk / "serial").read_text().strip() == serial:
                return f"/dev/{disk.name}"
        except OSError:  # it has none yet
            continue
    return None


def link(path: str, target: str) -> None:
    """Make `path` a link to `target`, in the place of a file or link that is there."""
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    if os.path.lexists(path):
        os.unlink(path)  # noqa: PTH108
    os.symlink(target, path)  # noqa: PTH211


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
