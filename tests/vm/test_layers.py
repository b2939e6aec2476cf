"""The layer of an agent in real machines: every clone has it, and root in the guest cannot change it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

from foundation_world import booted_snapshot, shared_foundation

from engine.build.context import BuildContext
from engine.build.nodes.agent import InstallAgent
from engine.build.nodes.agent_layer import LAYER, PACKAGE, AgentLayer, Part
from engine.build.step import InGuest
from engine.gateway.journal import Journal
from engine.gateway.policy import Policy
from engine.guest.base import Base
from engine.guest.guest import Guest, open_guest
from engine.guest.identity import Identity
from engine.state.instance_paths import Sockets
from vmm.disk import make_overlay
from vmm.process import guarded_directory
from vmm.snapshot import Snapshot, load_snapshot

SCRIPT = b"#!/bin/sh\necho from the layer\n"
# Each way that root in the guest has to the bytes of the disk. All of them must fail.
ATTEMPTS = {
    "write to a file": "echo x >> /opt/.agent/tool/package/run",
    "mount it anew": "mount -o remount,rw /opt/.agent && touch /opt/.agent/x",
    "write to the device": "dd if=/dev/zero of=$(findmnt -no SOURCE /opt/.agent) bs=4096 count=4 oflag=direct",
    "make the device writable": "d=$(findmnt -no SOURCE /opt/.agent); blockdev --setrw $d;"
    " dd if=/dev/zero of=$d bs=4096 count=4 oflag=direct conv=fsync",
    "discard": "d=$(findmnt -no SOURCE /opt/.agent); blockdev --setrw $d; blkdiscard -f $d",
    "write zeros": "d=$(findmnt -no SOURCE /opt/.agent); blockdev --setrw $d; blkdiscard -z -f $d",
}


async def make_snapshot(directory: Path, base: Snapshot, entries: dict[str, Path], shape: Base) -> Snapshot:
    """A snapshot of a machine with a layer of one program."""
    parents = {**entries, "booted": base.directory, "package[0]": directory / "package", "layer": directory / "layer"}
    for name in ("package", "layer", "agent"):
        (directory / name).mkdir()
    with tarfile.open(directory / "package" / PACKAGE, "w:gz") as tar:
        member = tarfile.TarInfo("package/run")
        member.size = len(SCRIPT)
        tar.addfile(member, io.BytesIO(SCRIPT))
    runtime = Path(os.environ["SANDBOX_RUNTIME_DIR"])

    def context(name: str) -> BuildContext:
        return BuildContext(directory / name, parents, print, Sockets(runtime / name))

    await AgentLayer((Part("package[0]", "/opt/tool", {"tool": "package/run"}),)).build(context("layer"))
    step = InstallAgent("1.0.0", "amd64", (), (), "layer")
    await InGuest(step, "layers", shape.shape, (), "booted").build(context("agent"))
    return load_snapshot(directory / "agent")


@contextlib.asynccontextmanager
async def restored(base: Base, snapshot: Snapshot, directory: Path) -> AsyncIterator[Guest]:
    directory.mkdir()
    disk = directory / "disk.qcow2"
    await make_overlay(base.tools, disk, snapshot.disk, "qcow2")
    with contextlib.ExitStack() as stack:
        runtime = stack.enter_context(guarded_directory(Path(os.environ["SANDBOX_RUNTIME_DIR"]) / directory.name))
        journal = stack.enter_context(contextlib.closing(Journal(directory / "journal.jsonl")))
        async with open_guest(
            base,
            name=directory.name,
            disk=disk,
            parent=snapshot,
            policy=Policy([]),
            identity=Identity(directory.name),
            runtime=runtime,
            journal=journal,
        ) as guest:
            yield guest


async def shell(guest: Guest, command: str) -> tuple[int, str]:
    done = await guest.channel.run(["bash", "-c", command], timeout_s=120)
    return done.code, (done.stdout + done.stderr).decode(errors="replace").strip()


def test_a_layer_is_in_every_clone_and_stays_as_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        base, booted = await booted_snapshot(tmp_path)
        entries = await shared_foundation()
        snapshot = await make_snapshot(tmp_path, booted, entries, base)
        layer = tmp_path / "layer" / LAYER
        before = hashlib.sha256(layer.read_bytes()).hexdigest()
        async with restored(base, snapshot, tmp_path / "first") as guest:
            assert await shell(guest, "tool; readlink /opt/tool") == (0, "from the layer\n/opt/.agent/tool")
            for name, command in ATTEMPTS.items():
                code, said = await shell(guest, command)
                assert code != 0, f"{name}: {said}"
        assert hashlib.sha256(layer.read_bytes()).hexdigest() == before
        async with restored(base, snapshot, tmp_path / "second") as guest:
            assert await shell(guest, "tool") == (0, "from the layer")

    asyncio.run(scenario())
