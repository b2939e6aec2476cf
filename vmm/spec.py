"""What a machine is made of: frozen values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GUEST_ADDRESS = "10.0.2.15"
GUEST_MAC = "52:54:00:12:34:56"
ROUTER_ADDRESS = "10.0.2.2"
GATEWAY_ADDRESS = "10.0.2.100"  # every name resolves to this one in the guest, but for those with one of their own
FIRST_OWN_ADDRESS, LAST_OWN_ADDRESS = "10.0.2.101", "10.0.2.199"
CHANNEL_PORT_NAME = "org.sandbox.agent"
# PCIe root ports for what is hot-plugged: mounts, and in the last one a disk. Part of the machine's shape, so of every
# snapshot.
SPARE_PORTS = 9
DISK_SLOT = SPARE_PORTS - 1
MOST_MOUNTS = SPARE_PORTS - 1

Accelerator = Literal["kvm", "hvf", "whpx", "tcg"]


@dataclass(frozen=True)
class Drive:
    """A virtio disk. The guest finds it by `serial` (at most 20 characters).

    `slot` is the spare port of one that was hot-plugged; None: it has been there since the machine was booted.
    """

    path: Path
    serial: str
    format: Literal["raw", "qcow2"] = "qcow2"
    read_only: bool = False
    slot: int | None = None

    @property
    def device(self) -> str:
        """The id of its device, which a restored machine must have again."""
        return f"blk-{self.serial}"


@dataclass(frozen=True)
class MountDevice:
    """A virtiofs device in spare port `slot` that is there from the start; its file server listens on `server`."""

    tag: str
    slot: int
    server: Path

    @property
    def channel(self) -> str:
        """What QEMU calls the connection to its server."""
        return f"fs{self.slot}"


@dataclass(frozen=True)
class GuestForward:
    """Connections of the guest to `address`:`port` are handed to the unix socket `socket`."""

    port: int
    socket: Path
    address: str = GATEWAY_ADDRESS


@dataclass(frozen=True)
class HostForward:
    """Connections to `host_address`:`host_port` on the host reach `guest_port` in the guest, through the channel."""

    host_port: int
    guest_port: int
    host_address: str = "127.0.0.1"


@dataclass(frozen=True)
class Network:
    """QEMU's user network with restrict=on: nothing is reachable but the forwards, and nobody reaches the guest.

    With `stream`, an inherited descriptor, the machine's frames go there instead, and there are no forwards.
    """

    guest_forwards: tuple[GuestForward, ...] = ()
    stream: int | None = None


@dataclass(frozen=True)
class Memory:
    """Guest memory of `size` bytes.

    `path` is the backing file (may be /proc/self/fd/N of an inherited descriptor); `shared` maps it so that other
    processes (file servers) and a snapshot see the pages; otherwise the machine gets private copy-on-write pages of it.
    """

    size: int
    path: Path | None = None
    shared: bool = False


@dataclass(frozen=True)
class MachineSpec:
    """Everything that decides QEMU's command line."""

    name: str
    accelerator: Accelerator
    cpus: int
    memory: Memory
    kernel: Path
    initrd: Path
    append: str
    drives: tuple[Drive, ...]
    network: Network | None = None
    spare_ports: int = SPARE_PORTS
    incoming: bool = False
    channel: bool = True
    mounts: tuple[MountDevice, ...] = ()  # of a machine that goes on where it was paused; others are hot-plugged


def kernel_arguments(*, role: str = "machine") -> str:
    """The kernel command line of our guests.

    Taken from what was measured to boot reliably under emulation: no timer calibration, expedited RCU, one UART, and
    the CPU's random source trusted. CPU vulnerability mitigations stay on: the guest runs untrusted code.
    """
    return (
        "console=ttyS0 quiet panic=-1 random.trust_cpu=on tsc=reliable no_timer_check "
        f"rcupdate.rcu_expedited=1 8250.nr_uarts=1 net.ifnames=0 sandbox.role={role}"
    )
