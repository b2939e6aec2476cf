"""The report of `doctor` as text, and hints about what could be better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.report.columns import align

GIB = 1024**3
FEW_DESCRIPTORS = 4096  # systemd's default for users is 524,288


def render(report: dict[str, Any]) -> str:
    """The report as text. Every section is there, even when nothing is known about it."""
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
    network = report["network"] or {"by": "", "reason": "not tried yet"}
    carrier = {"passt": "passt, in a network namespace with nothing but the gateway", "user": "QEMU's user network"}
    lines += ["network of guests", "  " + ": ".join(filter(None, (carrier.get(network["by"]), network["reason"])))]
    machine = report.get("machine") or {"holds": [], "missing": ["not tried yet"]}
    lines += ["QEMU", *([f"  confined by {', '.join(machine['holds'])}"] if machine["holds"] else [])]
    lines += [f"  {sentence}" for sentence in machine["missing"]]
    places = report["directories"]
    table = [(name, place["path"], f"{place['free'] / GIB:.1f} GiB free") for name, place in places.items()]
    return "\n".join([*lines, "directories", align(table, indent="  ")])


def hints(report: dict[str, Any]) -> list[str]:
    """What could be better on this host, one line for each."""
    lines = []
    verdict = report["accelerator"]
    if verdict and verdict["accelerator"] == "tcg":
        lines.append("guests run under emulation: several times slower than with hardware virtualization")
    if report["confinement"] and not report["confinement"]["by"]:
        lines.append("live mounts that the guest may write need `up --unconfined-mounts` here; see docs/security.md")
    if report["network"] and report["network"]["by"] == "user":
        lines.append(
            "without passt each connection of a guest costs a process, and takes longer; see docs/architecture.md"
        )
    if (most := report["host"]["descriptors"]) < FEW_DESCRIPTORS:
        lines.append(
            f"programs may have {most} files open here (ulimit -Hn): so many a guest can have open in a mount at once; "
            "how many it has there does not matter"
        )
    if not (report["tools"] and verdict):
        lines.append("`sandbox doctor` without --no-build fetches the tools and probes accelerators")
    cache = report["directories"]["cache"]
    if cache["free"] < 10 * GIB:
        lines.append(f"{Path(cache['path'])} has little room: a first build takes about 6 GiB")
    return lines
