"""How much this host has of what a machine is given."""

from __future__ import annotations

import os
from dataclasses import dataclass

from engine.cache.disk_space import free_bytes
from engine.state.layout import Layout


@dataclass(frozen=True)
class Capacity:
    """Bytes of memory, processors, and bytes that are free where the disks of sandboxes lie."""

    memory: int
    cpus: int
    disk: int

    @classmethod
    def of_host(cls, layout: Layout) -> Capacity:
        """Of the disks of cache and state the fuller one counts: a machine's disk is in both."""
        disk = min(free_bytes(layout.cache), free_bytes(layout.state))
        return cls(host_memory(), os.cpu_count() or 1, disk)


def host_memory() -> int:
    """Bytes of physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
