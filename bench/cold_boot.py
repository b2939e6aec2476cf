"""The same guest without a snapshot: how long QEMU takes from its start until Docker answers."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from engine.build.chain import make_chain
from engine.build.foundation import GUEST_NEEDS, load_base, load_verdict
from engine.cache.store import Store
from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.guest.base import Base
from engine.guest.guest import open_guest
from engine.guest.identity import Identity
from engine.state.layout import Layout
from sandboxfile import load
from vmm.disk import make_overlay
from vmm.process import guarded_directory

LIMIT_S = 600.0
DOCKER_S = 300.0


def known_accelerator(env: Mapping[str, str]) -> str:
    """What the cache knows about this host; "not probed" before the first `up`."""
    verdict = load_verdict(Store(Layout.from_environment(env)))
    return verdict.accelerator if verdict else "not probed"


class ColdBoot:
    """Boots the machine of one file from its image and an empty disk, both from the cache."""

    def __init__(self, file: Path, env: Mapping[str, str]) -> None:
        layout = Layout.from_environment(env)
        store, loaded = Store(layout), load(file)
        verdict = load_verdict(store)
        if verdict is None:
            raise RuntimeError("no accelerator was probed yet: `sandbox up` does that")
        chain = make_chain(loaded, verdict)
        entries = {}
        for name in GUEST_NEEDS:
            node = chain.graph.nodes[name]
            path = store.find(node.kind, node.key)
            if path is None:
                raise RuntimeError(f"{node.title} is not in the cache: `sandbox up` builds it")
            entries[name] = path
        self._base: Base = load_base(entries, chain.shape)
        self._disk = entries["disk"] / "disk.raw"

    def run(self) -> float:
        """Seconds until Docker answers. Raises VmmError, and TimeoutError after LIMIT_S."""
        return asyncio.run(self._run())

    async def _run(self) -> float:
        async with asyncio.timeout(LIMIT_S):
            with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as scratch:
                directory = Path(scratch)
                with guarded_directory(directory / "run") as runtime, Journal(directory / "journal.jsonl") as journal:
                    began = time.perf_counter()
                    await make_overlay(self._base.tools, directory / "disk.qcow2", self._disk, "raw")
                    async with open_guest(
                        self._base,
                        name="bench-cold",
                        disk=directory / "disk.qcow2",
                        parent=None,
                        policy=Policy(()),
                        identity=Identity("bench-cold"),
                        runtime=runtime,
                        journal=journal,
                    ) as guest:
                        await guest.channel.call("wait_unit", timeout_s=DOCKER_S, unit="docker.service")
                        return time.perf_counter() - began
