"""Run in the guest as root: drives a virtio device by its registers so that QEMU complains on its standard error.

argv: SECONDS. No module of the kernel is needed for it. Prints how often QEMU had a reason.
"""

# ruff: noqa: PTH119, PTH123, PTH207

from __future__ import annotations

import ctypes
import glob
import mmap
import os
import struct
import sys
import time
from typing import Any

ENTROPY = ("0x1005", "0x1044")
COMMON, NOTIFY = 1, 2  # capabilities of a virtio device
VENDOR_SPECIFIC = 9
MEMORY_AND_MASTER = 6


def read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def find_device() -> str:
    return next(path for path in glob.glob("/sys/bus/pci/devices/*") if read(f"{path}/device") in ENTROPY)


def main() -> None:
    device = find_device()
    with open(f"{device}/driver/unbind", "w") as file:
        file.write(os.path.basename(device))
    with open(f"{device}/enable", "w") as file:
        file.write("1")
    with open(f"{device}/config", "r+b", buffering=0) as file:
        space = file.read(256)
        file.seek(4)
        file.write(struct.pack("<H", struct.unpack_from("<H", space, 4)[0] | MEMORY_AND_MASTER))
    at, places = space[0x34], {}
    while at:
        if space[at] == VENDOR_SPECIFIC:
            places[space[at + 3]] = (space[at + 4], *struct.unpack_from("<I", space, at + 8))
        at = space[at + 1]
    bar, common = places[COMMON]
    _, notify = places[NOTIFY]
    descriptor = os.open(f"{device}/resource{bar}", os.O_RDWR | os.O_SYNC)
    registers = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
    base = ctypes.addressof(ctypes.c_char.from_buffer(registers))

    def write(kind: Any, offset: int, value: int) -> None:
        kind.from_address(base + common + offset).value = value

    rounds, end = 0, time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:
        for status in (0, 1, 3):
            write(ctypes.c_uint8, 0x14, status)
        for offset, value in ((8, 1), (12, 1), (8, 0), (12, 0)):  # features
            write(ctypes.c_uint32, offset, value)
        write(ctypes.c_uint8, 0x14, 11)
        write(ctypes.c_uint16, 0x16, 0)  # the first queue, of eight entries, all of it at a place that makes no sense
        write(ctypes.c_uint16, 0x18, 8)
        for offset in (0x20, 0x28, 0x30):
            write(ctypes.c_uint32, offset, 0xF0010)
            write(ctypes.c_uint32, offset + 4, 0)
        write(ctypes.c_uint16, 0x1C, 1)
        write(ctypes.c_uint8, 0x14, 15)
        ctypes.c_uint16.from_address(base + notify).value = 0
        rounds += 1
    print(rounds)


main()
