"""What `doctor` finds: the host, the tools, the accelerator with its evidence, the directories."""

from __future__ import annotations

import os
import platform
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.report.columns import align

if TYPE_CHECKING:
    from engine.build.accelerator import Verdict
    from engine.cache.store import Store
    from engine.state.layout import Layout
    from vmm.tools import Tools

GIB = 1024**3
FEW_DESCRIPTORS = 4096  # systemd's default for users is 524,288


class Confinement(NamedTuple):
    """What holds the file server of a mount in its directory, and why nothing does."""

    by: str
    reason: str | None


async def try_mounts() -> Confinement:
    """Takes some 100 ms."""
    from vmm.errors import VmmError
    from vmm.virtiofs import try_confinement

    try:
        return Confinement(await try_confinement(), None)
    except VmmError as error:
        return Confinement("", error.brief)


def find_tools(store: Store) -> Tools | None:
    """The private or the system's toolchain; None when none has been made ready."""
    from engine.build.foundation import tool_nodes
    from engine.build.toolchain import load_toolchain

    node = tool_nodes()[0]
    entry = store.find(node.kind, node.key)
    return load_toolchain(entry) if entry else None


def make_report(
    layout: Layout, tools: Tools | None, verdict: Verdict | None, confinement: Confinement | None
) -> dict[str, Any]:
    """A JSON value; sizes in bytes."""
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
        "directories": {
            name: {"path": str(path), "free": shutil.disk_usage(path).free}
            for name, path in (("cache", layout.cache), ("state", layout.state), ("runtime", layout.runtime))
        },
    }


def render(report: dict[str, Any]) -> str:
    """For people; every section is there, also when nothing is known of it."""
    host, verdict = report["host"], report["accelerator"]
    size = f"{host['cpus']} CPUs, {host['memory'] / GIB:.1f} GiB of memory, Python {host['python']}"
    lines = ["host", f"  {host['system']}, {size}", "tools"]
    rows = [(tool["name"], tool["version"], tool["origin"], tool["path"]) for tool in report["tools"]]
    lines.append(align(rows, indent="  ") if rows else "  not fetched yet")
    lines += ["guest kernel", f"  {report['kernel'] or 'not fetched yet'}", "accelerator"]
    lines.append(f"  {verdict['accelerator']}" if verdict else "  not probed yet")
    for attempt in verdict["attempts"] if verdict else ():
        lines.append(f"    {attempt['accelerator']}: {attempt['result']}, after {attempt['seconds']:.1f} s")
        lines.append(f"      tried: {attempt['tried']}")
        if attempt["last_line"] and not attempt["booted"]:
            lines.append(f"      last line of its console: {attempt['last_line']}")
    confinement = report["confinement"] or {"by": "", "reason": "not tried yet"}
    lines += [
        "file servers of mounts",
        f"  confined by {confinement['by']}" if confinement["by"] else f"  {confinement['reason']}",
    ]
    places = report["directories"]
    table = [(name, place["path"], f"{place['free'] / GIB:.1f} GiB free") for name, place in places.items()]
    return "\n".join([*lines, "directories", align(table, indent="  ")])


def hints(report: dict[str, Any]) -> list[str]:
    """What could be better, one line each."""
    found = []
    verdict = report["accelerator"]
    if verdict and verdict["accelerator"] == "tcg":
        found.append("guests run under emulation: several times slower than with hardware virtualization")
    if report["confinement"] and not report["confinement"]["by"]:
        found.append("live mounts that the guest may write need `up --unconfined-mounts` here; see docs/security.md")
    if (most := report["host"]["descriptors"]) < FEW_DESCRIPTORS:
        found.append(
            f"programs may have {most} files open here (ulimit -Hn): so many a guest can have open in a mount at once; "
            "how many it has there does not matter"
        )
    if not (report["tools"] and verdict):
        found.append("`sandbox doctor` without --no-build fetches the tools and probes accelerators")
    cache = report["directories"]["cache"]
    if cache["free"] < 10 * GIB:
        found.append(f"{Path(cache['path'])} has little room: a first build takes about 6 GiB")
    return found
