"""How much memory, disk and how many processors this host has."""

from __future__ import annotations

import os
from dataclasses import dataclass

from engine.cache.disk_space import free_bytes
from engine.state.layout import Layout


@dataclass(frozen=True)
class Capacity:
    """Bytes of memory, the number of processors, and the bytes that are free for the disks of sandboxes."""

    memory: int
    cpus: int
    disk: int

    @classmethod
    def of_host(cls, layout: Layout) -> Capacity:
        """The capacity of this host.

        A sandbox's disk lies partly in the cache and partly in the state directory, so the one with less space counts.
        """
        disk = min(free_bytes(layout.cache), free_bytes(layout.state))
        return cls(host_memory(), os.cpu_count() or 1, disk)


def host_memory() -> int:
    """The bytes of physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
