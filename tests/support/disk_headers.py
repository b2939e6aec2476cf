"""The beginnings of disks, as qemu-img writes them."""

from __future__ import annotations

import struct


def qcow2(backing: str | None, format: str = "qcow2") -> bytes:
    """The header that qemu-img writes, of version 3."""
    name = backing.encode() if backing else b""
    extension = struct.pack(">II", 0xE2792ACA, len(format)) + format.encode().ljust(8, b"\0") + bytes(8)
    head = b"QFI\xfb" + struct.pack(">IQI", 3, 104 + len(extension) if name else 0, len(name))
    return head.ljust(100, b"\0") + struct.pack(">I", 104) + extension + name
