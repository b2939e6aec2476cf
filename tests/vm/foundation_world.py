"""The toolchain, image and initramfs that the machine tests share, from the user's cache or built into it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine.build.blueprint import Blueprint, build
from engine.build.context import BuildContext
from engine.build.foundation import guest_nodes, load_base, tool_nodes
from engine.build.toolchain import load_toolchain
from engine.cache.store import Store
from engine.guest.base import Base
from engine.plan.graph import Node
from engine.report.choice import make_reporter
from engine.state.layout import Layout
from sandboxfile import load
from vmm.snapshot import Snapshot, load_snapshot
from vmm.tools import Tools

DISK_BYTES = 8 * 1024**3


async def ensure(nodes: list[Node], wanted: set[str]) -> dict[str, Path]:
    """The cache entries of the wanted nodes and of what they need, by node id."""
    store = Store(Layout.from_environment(os.environ))
    entries: dict[str, Path] = {}
    for node in nodes:
        if node.id not in wanted:
            continue
        async with store.build(node.kind, node.key, on_wait=print, inputs=node.inputs) as build:
            if build is not None:
                assert node.work is not None
                parents = {need: entries[need] for need in node.needs}
                await node.work.build(BuildContext(build.directory, parents, print, build.sockets))
        entries[node.id] = store.layout.entry(node.kind, node.key)
    return entries


async def shared_tools() -> Tools:
    return load_toolchain((await ensure(tool_nodes(), {"toolchain"}))["toolchain"])


async def shared_foundation() -> dict[str, Path]:
    tools = tool_nodes()
    nodes = [*tools, *guest_nodes(tools[0].key, DISK_BYTES, "auto")]
    return await ensure(nodes, {"toolchain", "accelerator", "image", "initramfs"})


def processes_with(text: str) -> list[int]:
    """Processes whose command line holds `text`."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (directory / "cmdline").read_bytes():
                found.append(int(directory.name))
        except OSError:
            continue
    return found


async def wait_until(check: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        await asyncio.sleep(0.05)


async def booted_snapshot(directory: Path) -> tuple[Base, Snapshot]:
    """A machine that has booted up to its dockerd, from the user's cache or built into it; `directory` for its file."""
    file = directory / "Sandboxfile.yaml"
    file.write_text('version: "1"\nname: booted\nmounts: [.:/workspace]\n')
    blueprint = Blueprint.of(load(file), Layout.from_environment(os.environ))
    with make_reporter(sys.stderr, "plain") as reporter:
        built = await build(blueprint, reporter)
    return load_base(built.entries, built.blueprint.chain.shape), load_snapshot(built.snapshot)
