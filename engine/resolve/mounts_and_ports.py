"""What a checked file asks of a running machine, and of the record that tells others about it."""

from __future__ import annotations

from collections.abc import Iterable

from engine.resolve.host_ports import pick_port
from engine.resolve.paths import protected_in, real_source
from engine.state.instances import AgentCall
from engine.workspaces.mount_point import MountPoint
from sandboxfile import Loaded
from sandboxfile.compose.services import published_ports
from vmm.spec import HostForward


def wanted_mounts(loaded: Loaded) -> tuple[MountPoint, ...]:
    """The live mounts, with real paths of the host."""
    found = []
    for mount in loaded.sandbox.mounts:
        source, read_only = real_source(loaded.project, mount.source), mount.mode == "ro"
        protected = () if read_only else protected_in(loaded, source)
        found.append(MountPoint(str(source), mount.target, read_only, protected))
    return tuple(found)


def working_directory(loaded: Loaded) -> str:
    """Where commands run in the guest: the first mount's target, else the agent's home."""
    mounts = loaded.sandbox.mounts
    return mounts[0].target if mounts else "/home/agent"


def wanted_forwards(loaded: Loaded, before: Iterable[HostForward] = ()) -> tuple[HostForward, ...]:
    """The host's ports. Where the file leaves the choice to us, a port that led there `before` stays."""
    wanted = [(port.host, port.guest) for port in loaded.sandbox.ports]
    # A service's published port is a port of the guest; the host gets the same number.
    for _, host_port, _, protocol in published_ports(loaded.sandbox.services):
        if protocol == "tcp" and host_port is not None and host_port not in [host for host, _ in wanted]:
            wanted.append((host_port, host_port))
    taken = {host for host, _ in wanted if host is not None}
    free = [forward for forward in before if forward.host_port not in taken]
    taken |= {forward.host_port for forward in free}

    def choose(guest: int) -> int:
        for forward in free:
            if forward.guest_port == guest:
                free.remove(forward)
                return forward.host_port
        taken.add(port := pick_port(taken))
        return port

    return tuple(HostForward(host or choose(guest), guest) for host, guest in wanted)


def agent_call(loaded: Loaded) -> AgentCall | None:
    """How the file's agent is started; None when it has none."""
    agent = loaded.sandbox.agent
    return AgentCall([*(agent.command or ()), *agent.args], agent.user, dict(agent.env)) if agent else None
