"""The guest's memory as QEMU shares it with us: addresses of the guest to bytes of ours."""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass


class OutsideMemory(Exception):
    """The guest named an address that is not in its memory, or a range that leaves it."""


@dataclass(frozen=True)
class Region:
    """`size` bytes that the guest sees at `guest` and QEMU at `user` (the rings' addresses are given as QEMU's)."""

    guest: int
    size: int
    user: int
    view: memoryview


class GuestMemory:
    """All regions of one table. A range must lie in one region, as the guest's kernel makes them."""

    def __init__(self, table: list[tuple[int, int, int, int, int]]) -> None:
        """`table` has (guest address, size, QEMU's address, offset in the file, descriptor); closes the descriptors."""
        self._maps: list[mmap.mmap] = []
        self.regions: list[Region] = []
        try:
            for guest, size, user, offset, descriptor in table:
                whole = mmap.mmap(descriptor, offset + size)  # an offset of mmap would have to be a page's
                self._maps.append(whole)
                self.regions.append(Region(guest, size, user, memoryview(whole)[offset : offset + size]))
        finally:
            for *_, descriptor in table:
                os.close(descriptor)

    def at(self, address: int, length: int) -> memoryview:
        """`length` bytes at the guest's physical `address`. Raises OutsideMemory."""
        for region in self.regions:
            start = address - region.guest
            if start >= 0 and start + length <= region.size:
                return region.view[start : start + length]
        raise OutsideMemory(f"{length} bytes at {address:#x}")

    def at_user(self, address: int, length: int) -> memoryview:
        """The same for an address of QEMU's own memory."""
        for region in self.regions:
            start = address - region.user
            if start >= 0 and start + length <= region.size:
                return region.view[start : start + length]
        raise OutsideMemory(f"{length} bytes at {address:#x} of QEMU")

    def close(self) -> None:
        """Let go of it. What still looks at it keeps it for as long as that lives."""
        regions, self.regions = self.regions, []
        for region in regions:
            region.view.release()
        for whole in self._maps:
            with contextlib.suppress(BufferError):
                whole.close()
