"""MachineSpec -> QEMU's arguments. Pure: the same value always gives the same list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmm.errors import VmmError
from vmm.spec import CHANNEL_PORT_NAME, GUEST_ADDRESS, GUEST_MAC, Drive, MachineSpec, MountDevice, Network

MIB = 1024 * 1024
USER_NETWORK = "user0"
MOUNT_QUEUE = 1024  # requests of a mount at once
# The guest needs none of these; each costs boot time under emulation and surface everywhere.
MACHINE_OFF = "smbus=off,sata=off,usb=off,vmport=off,hpet=off"


def qemu_arguments(
    spec: MachineSpec,
    *,
    fds: Mapping[str, int],
    connect: Sequence[str],
    data: Sequence[str],
    filtered: bool = True,
) -> list[str]:
    """All arguments after QEMU's own command.

    `fds` maps "qmp", "console", the channels of mounts and, when the spec has a channel, "channel" to inherited socket
    descriptors; `connect`
    is the command that joins its stdin and stdout to a unix socket, given as last argument; `data` are the -L options.
    `filtered` says that this QEMU has a filter of system calls of its own.
    Raises VmmError when a path cannot be written in QEMU's option syntax.
    """
    if spec.memory.size % MIB:
        raise VmmError("guest memory must be a whole number of MiB")
    arguments = [*data, "-name", quote(f"sandbox-{spec.name}"), "-nodefaults", "-no-user-config", "-display", "none"]
    arguments += _filter(spec) if filtered else []
    arguments += ["-no-reboot", "-boot", "strict=on", "-msg", "timestamp=on"]
    arguments += ["-M", f"q35,{MACHINE_OFF},memory-backend=ram", "-accel", _accelerator(spec)]
    arguments += ["-cpu", "max" if spec.accelerator == "tcg" else "host", "-smp", f"cpus={spec.cpus}"]
    arguments += ["-m", f"size={spec.memory.size // MIB}M", "-object", _memory(spec)]
    arguments += ["-kernel", str(spec.kernel), "-initrd", str(spec.initrd), "-append", spec.append]
    for name in ("qmp", "console"):
        arguments += ["-chardev", f"socket,id={name},fd={fds[name]}"]
    arguments += ["-mon", "chardev=qmp,mode=control", "-serial", "chardev:console"]
    for drive in spec.drives:
        arguments += _drive(drive) if drive.slot is None else []
    if spec.channel:
        arguments += ["-device", "virtio-serial-pci,id=vserial", "-chardev", f"socket,id=channel,fd={fds['channel']}"]
        arguments += ["-device", f"virtserialport,bus=vserial.0,chardev=channel,name={CHANNEL_PORT_NAME}"]
    if spec.network is not None:
        arguments += _network(spec.network, connect)
        arguments += ["-device", f"virtio-net-pci,netdev=net0,mac={GUEST_MAC},romfile="]
    arguments += ["-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"]
    # Free pages of the guest go back to the host by themselves: idle sandboxes and snapshots stay small.
    arguments += ["-device", "virtio-balloon-pci,id=balloon,free-page-reporting=on"]
    for number in range(spec.spare_ports):
        arguments += ["-device", f"pcie-root-port,id=slot{number},chassis={number + 1},slot={number + 1}"]
    for drive in spec.drives:
        arguments += _drive(drive) if drive.slot is not None else []
    for mount in spec.mounts:
        arguments += _mount(mount, fds[mount.channel])
    if spec.incoming:
        arguments += ["-incoming", "defer", "-S"]  # one that was saved while it ran would run as soon as it is loaded
    return arguments


def _filter(spec: MachineSpec) -> list[str]:
    # The user network starts a program for each connection, as the leader of a session: that is among the privileged
    # calls for QEMU. The jail has taken the privileges away.
    starts = spec.network is not None and spec.network.stream is None
    rights = [] if starts else ["elevateprivileges=deny", "spawn=deny"]
    return ["-sandbox", ",".join(["on", "obsolete=deny", *rights, "resourcecontrol=deny"])]


def _accelerator(spec: MachineSpec) -> str:
    return "tcg,thread=multi" if spec.accelerator == "tcg" else spec.accelerator


def _memory(spec: MachineSpec) -> str:
    memory = spec.memory
    if memory.path is None:
        return f"memory-backend-ram,id=ram,size={memory.size}"
    share = "on" if memory.shared else "off"
    # A private machine never writes the file: QEMU opens it read-only, and so cannot punch out of it what its guest
    # reports as free (`rom=off`: the guest writes to its memory all the same; qemu-options, memory-backend-file).
    mode = "" if memory.shared else ",readonly=on,rom=off"
    return f"memory-backend-file,id=ram,size={memory.size},mem-path={quote(str(memory.path))},share={share}{mode}"


def _drive(drive: Drive) -> list[str]:
    read_only = "on" if drive.read_only else "off"
    # discard=unmap lets fstrim in the guest shrink the file; snapshots and overlays stay small.
    block = f"driver={drive.format},node-name={drive.serial},read-only={read_only},discard=unmap"
    file = f"file.driver=file,file.filename={quote(str(drive.path))},file.locking=off"
    bus = "" if drive.slot is None else f",bus=slot{drive.slot}"
    device = f"virtio-blk-pci,drive={drive.serial},serial={drive.serial},id={drive.device}{bus}"
    return ["-blockdev", f"{block},{file}", "-device", device]


def _mount(mount: MountDevice, connection: int) -> list[str]:
    device = f"vhost-user-fs-pci,id=fsdev{mount.slot},chardev={mount.channel},tag={mount.tag}"
    return [
        *("-chardev", f"socket,id={mount.channel},fd={connection}"),
        *("-device", f"{device},bus=slot{mount.slot},queue-size={MOUNT_QUEUE}"),
    ]


def _network(network: Network, connect: Sequence[str]) -> list[str]:
    if network.stream is not None:
        return ["-netdev", f"stream,id=net0,addr.type=fd,addr.str={network.stream}"]
    parts = [f"user,id={USER_NETWORK},restrict=on,ipv6=off,dhcpstart={GUEST_ADDRESS}"]
    for forward in network.guest_forwards:
        command = " ".join(_shell_word(word) for word in (*connect, str(forward.socket)))
        parts.append(f"guestfwd=tcp:{forward.address}:{forward.port}-cmd:{quote(command)}")
    # Behind a hub the user network can be removed before a snapshot is saved; as the card's own peer it could not.
    hub = [f"hubport,id=hub0,hubid=0,netdev={USER_NETWORK}", "hubport,id=net0,hubid=0"]
    return [word for option in (",".join(parts), *hub) for word in ("-netdev", option)]


def quote(value: str) -> str:
    """A value inside one of QEMU's comma-separated options: commas are doubled.

    Raises VmmError for control characters, which the option syntax cannot carry.
    """
    if any(ord(character) < 32 for character in value):
        raise VmmError(f"QEMU cannot be given a path with control characters: {value!r}")
    return value.replace(",", ",,")


def _shell_word(word: str) -> str:
    # QEMU splits a guestfwd command with GLib's shell rules.
    if word and all(character.isalnum() or character in "/._-+=:@%" for character in word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"
