"""What every machine of one guest image shares, and the machine that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmm.snapshot import Shape, Snapshot
from vmm.spec import Drive, MachineSpec, Memory, Network, kernel_arguments
from vmm.tools import Tools


@dataclass(frozen=True)
class Base:
    """Tools, root file system, initramfs and shape of all machines of one guest image."""

    tools: Tools
    root: Path
    initrd: Path
    shape: Shape

    def machine(
        self, name: str, disk: Path, memory: int | None, shared: bool, network: Network, parent: Snapshot | None
    ) -> MachineSpec:
        """The machine `name` with the writable `disk`, restored from `parent` or booted.

        `memory` is the descriptor of its memory, which it inherits; None: it is QEMU's own.
        """
        path = Path(f"/proc/self/fd/{memory}") if memory is not None else None
        return MachineSpec(
            name=name,
            accelerator=self.shape.accelerator,
            cpus=self.shape.cpus,
            memory=Memory(self.shape.memory, path, shared),
            kernel=self.tools.kernel,
            initrd=self.initrd,
            append=kernel_arguments(),
            drives=(
                Drive(self.root, "root", "raw", read_only=True),
                Drive(disk, "disk"),
                *(parent.drives if parent is not None else ()),
            ),
            network=network,
            spare_ports=self.shape.spare_ports,
            incoming=parent is not None,
        )
