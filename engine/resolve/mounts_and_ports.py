"""The mounts and ports of a checked file, as a running machine and its record need them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.errors import EngineError
from engine.resolve.host_ports import pick_port
from engine.resolve.paths import protected_in, protected_to_run, real_source
from engine.workspaces.clone_point import ClonePoint
from engine.workspaces.hiding import hidden_rules
from engine.workspaces.mount_point import MountPoint
from sandboxfile import Loaded, Mount
from sandboxfile.compose.services import published_ports
from vmm.spec import HostForward


def wanted_mounts(loaded: Loaded) -> tuple[MountPoint, ...]:
    """The live mounts of the file, with real paths of the host. Raises EngineError (exit code 2) for a wrong `hide`."""
    mounts = []
    for mount in loaded.sandbox.mounts:
        if mount.mode == "clone":
            continue
        try:
            hidden_rules(mount.hide)
        except ValueError as error:  # such as [z-a]
            raise EngineError(f"a mount's `hide`: {error}", exit_code=2) from None
        source, read_only = real_source(loaded.project, mount.source), mount.mode == "ro"
        if source.is_file():
            mounts.append(wanted_file(loaded, mount, source))
            continue
        protected = () if read_only else protected_in(loaded, source)
        if mount.protect and not read_only:
            protected = tuple(sorted({*protected, *protected_to_run(loaded, source)}))
        point = MountPoint(str(source), mount.target, read_only, protected, mount.hide, mount.local, limit=mount.limit)
        mounts.append(point)
    return tuple(mounts)


def wanted_file(loaded: Loaded, mount: Mount, source: Path) -> MountPoint:
    """The mount of one file. Raises EngineError (exit code 2) where the guest must not write it."""
    if mount.mode == "ro":
        return MountPoint(str(source), mount.target, True, is_file=True)
    deciding = protected_in(loaded, source.parent)
    if source.name in deciding:
        brief, hint = f"a writable mount of {source}, which decides what the sandbox is", "mount it with mode ro"
        raise EngineError(brief, hint=hint, exit_code=2)
    to_run = protected_to_run(loaded, source.parent) if mount.protect else ()
    if source.name in to_run:
        hint = "mount it with mode ro, or write protect: false"
        raise EngineError(f"a writable mount of {source}, which this host runs later", hint=hint, exit_code=2)
    protected = tuple(sorted({*deciding, *to_run}))
    return MountPoint(str(source), mount.target, False, protected, is_file=True, limit=mount.limit)


def wanted_clones(loaded: Loaded) -> tuple[ClonePoint, ...]:
    """The private copies of the file, with real paths of the host."""
    return tuple(
        ClonePoint(str(real_source(loaded.project, mount.source)), mount.target, mount.local, mount.hide)
        for mount in loaded.sandbox.mounts
        if mount.mode == "clone"
    )


def working_directory(loaded: Loaded) -> str:
    """The directory in which commands run in the guest: the target of the first mount, else the agent's home."""
    mounts = loaded.sandbox.mounts
    return mounts[0].target if mounts else "/home/agent"


def wanted_forwards(loaded: Loaded, before: Iterable[HostForward] = ()) -> tuple[HostForward, ...]:
    """The ports of the host that lead into the guest.

    Where the file leaves the port to us, the one that led to the same port of the guest `before` is kept.
    """
    ports = [(port.host, port.guest) for port in loaded.sandbox.ports]
    # A service publishes its port in the guest. The host gets a port of the same number.
    for _, host_port, _, protocol in published_ports(loaded.sandbox.services):
        if protocol == "tcp" and host_port is not None and host_port not in [host for host, _ in ports]:
            ports.append((host_port, host_port))
    taken = {host for host, _ in ports if host is not None}
    free = [forward for forward in before if forward.host_port not in taken]
    taken |= {forward.host_port for forward in free}

    def choose(guest: int) -> int:
        for forward in free:
            if forward.guest_port == guest:
                free.remove(forward)
                return forward.host_port
        taken.add(port := pick_port(taken))
        return port

    return tuple(HostForward(host or choose(guest), guest) for host, guest in ports)
