"""What `doctor` reports: the host, the tools, the accelerator and how it was chosen, the network, the directories."""

from __future__ import annotations

import os
import platform
import resource
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from engine.build.accelerator import Verdict
    from engine.cache.store import Store
    from engine.lifecycle.confinement import MachineJail
    from engine.report.reporter import Reporter
    from engine.state.layout import Layout
    from vmm.tools import Tools


class Confinement(NamedTuple):
    """What confines the file server of a mount to its directory; "" when nothing does, and then the reason."""

    by: str
    reason: str | None


async def try_mounts() -> Confinement:
    """Try how the file server of a mount can be confined on this host. Takes about 100 ms."""
    from vmm.errors import VmmError
    from vmm.virtiofs import try_confinement

    try:
        return Confinement(await try_confinement(), None)
    except VmmError as error:
        return Confinement("", error.brief)


class NetworkCarrier(NamedTuple):
    """What carries the packets of guests: "passt", or "user" for QEMU's user network, and then the reason."""

    by: str
    reason: str | None


async def try_network(tools: Tools | None) -> NetworkCarrier | None:
    """Try what carries packets on this host; None while there are no tools. Takes about 100 ms, on a bad host 15 s."""
    from vmm.carrier import open_carrier

    if tools is None:
        return None
    async with open_carrier(tools, ()) as carrier:
        return NetworkCarrier(carrier.kind, carrier.reason or None)


async def try_machine_jail(network: NetworkCarrier | None) -> MachineJail:
    """Try how QEMU is confined on this host. Takes about 100 ms."""
    from engine.lifecycle.confinement import try_machine

    return await try_machine(own_network=network is not None and network.by == "passt")


def find_tools(store: Store) -> Tools | None:
    """The toolchain of this host, private or the system's; None when it has not been made ready yet."""
    from engine.build.foundation import tool_nodes
    from engine.build.toolchain import load_toolchain

    node = tool_nodes()[0]
    entry = store.find(node.kind, node.key)
    return load_toolchain(entry) if entry else None


def make_report(
    layout: Layout,
    tools: Tools | None,
    verdict: Verdict | None,
    confinement: Confinement | None,
    network: NetworkCarrier | None,
    machine: MachineJail | None = None,
) -> dict[str, Any]:
    """The report as a JSON value, with sizes in bytes."""
    from engine.resolve.capacity import host_memory

    return {
        "host": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "memory": host_memory(),
            "python": platform.python_version(),
            "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        },
        "tools": [
            {"name": tool.name, "version": tool.version, "origin": tool.origin, "path": str(tool.path)}
            for tool in (tools.programs() if tools else ())
        ],
        "kernel": tools.kernel_release if tools else None,
        "accelerator": verdict.to_json() if verdict else None,
        "confinement": confinement._asdict() if confinement else None,
        "network": network._asdict() if network else None,
        "machine": machine._asdict() if machine else None,
        "directories": {
            name: {"path": str(path), "free": shutil.disk_usage(path).free}
            for name, path in (("cache", layout.cache), ("state", layout.state), ("runtime", layout.runtime))
        },
    }


async def make_ready(store: Store, reporter: Callable[[], Reporter]) -> None:
    """Fetch the tools and probe the accelerators, unless that has been done. Raises EngineError.

    `reporter` is called, and told about the progress, only when there is something to do.
    """
    from engine.build.foundation import tool_nodes
    from engine.build.scheduler import execute
    from engine.plan.build_plan import make_plan
    from engine.plan.graph import Graph

    graph = Graph(tool_nodes())
    plan = make_plan(graph, store)
    if plan.to_build:
        with reporter() as progress:
            await execute(graph, plan, store, progress, 1)
