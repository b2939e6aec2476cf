"""The beginnings of disks, as qemu-img writes them."""

from __future__ import annotations

import struct

FORMAT = 0xE2792ACA  # the type of the extension that says which format the backing file has


def qcow2(backing: str | None, format: str = "qcow2", *more: tuple[int, bytes]) -> bytes:
    """The header that qemu-img writes, of version 3, and `more` extensions, which have up to eight bytes."""
    name = backing.encode() if backing else b""
    extensions = ((FORMAT, format.encode()), *more)
    extension = b"".join(struct.pack(">II", kind, len(text)) + text.ljust(8, b"\0") for kind, text in extensions)
    extension += bytes(8)
    head = b"QFI\xfb" + struct.pack(">IQI", 3, 104 + len(extension) if name else 0, len(name))
    return head.ljust(100, b"\0") + struct.pack(">I", 104) + extension + name
