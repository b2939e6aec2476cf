"""The nodes that do not depend on the file: tools, accelerator, guest image, initramfs, empty disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.build.accelerator import VERDICT, Verdict, probe, verdict_key
from engine.build.context import BuildContext
from engine.build.image import build_image, build_initramfs, image_key, initramfs_key
from engine.build.image.build import Place
from engine.build.image.initramfs import INITRAMFS
from engine.build.image.recipe import ROOT
from engine.build.toolchain import build_toolchain, load_toolchain, toolchain_key
from engine.cache.store import Store
from engine.guest.base import Base
from engine.plan.graph import Node
from engine.state.keys import content_key
from vmm.disk import make_disk
from vmm.process import guarded_directory
from vmm.snapshot import Shape

DISK = "disk.raw"
GUEST_NEEDS = ("toolchain", "accelerator", "image", "initramfs", "disk")


def tool_nodes() -> list[Node]:
    """The nodes that every other node depends on: the tools, and the accelerator that works with them."""
    key, inputs = toolchain_key()
    toolchain = Node("toolchain", "toolchain", "QEMU and the guest kernel", key, (), inputs, Toolchain())
    probe_key, probe_inputs = verdict_key(key)
    accelerator = Node(
        "accelerator",
        "accelerator",
        "which accelerator boots a guest",
        probe_key,
        ("toolchain",),
        probe_inputs,
        Probe(),
        requires_entries=True,  # the verdict is about the QEMU in this very entry
    )
    return [toolchain, accelerator]


def guest_nodes(tool_key: str, disk_size: int, place: Place) -> list[Node]:
    """The nodes that a machine boots from: image, initramfs, and an empty disk of `disk_size` bytes."""
    key, inputs = image_key(tool_key)
    # The builder machine uses the accelerator. Which one that is makes no difference to the image.
    image = Node("image", "image", "Debian guest image", key, ("toolchain", "accelerator"), inputs, GuestImage(place))
    key, inputs = initramfs_key(tool_key)
    initramfs = Node("initramfs", "initramfs", "initramfs and guestd", key, ("toolchain",), inputs, Initramfs())
    inputs = {"size": str(disk_size)}
    disk = Node(
        "disk",
        "disk",
        "empty guest disk",
        content_key("disk", tool_key, **inputs),
        ("toolchain",),
        inputs,
        Disk(disk_size),
    )
    return [image, initramfs, disk]


def load_base(parents: Mapping[str, Path], shape: Shape) -> Base:
    """The base of a machine, from the cache entries of GUEST_NEEDS."""
    return Base(load_toolchain(parents["toolchain"]), parents["image"] / ROOT, parents["initramfs"] / INITRAMFS, shape)


@dataclass(frozen=True)
class Toolchain:
    """Makes the toolchain: QEMU and its helpers, private ones or the system's."""

    async def build(self, context: BuildContext, /) -> None:
        await build_toolchain(context.directory, progress=context.log)


@dataclass(frozen=True)
class Probe:
    """Finds the accelerator that boots a guest on this host, and records what each attempt showed."""

    async def build(self, context: BuildContext, /) -> None:
        verdict = await probe(load_toolchain(context.parents["toolchain"]), context.directory, progress=context.log)
        (context.directory / VERDICT).write_text(json.dumps(verdict.to_json(), indent=1) + "\n")


@dataclass(frozen=True)
class GuestImage:
    """Makes the root file system of guests, on this host or in a builder machine."""

    place: Place

    async def build(self, context: BuildContext, /) -> None:
        accelerator = _read_verdict(context.parents["accelerator"]).accelerator
        tools, sockets = load_toolchain(context.parents["toolchain"]), context.sockets.directory
        with guarded_directory(sockets):
            await build_image(
                context.directory,
                tools,
                progress=context.log,
                place=self.place,
                accelerator=accelerator,
                sockets=sockets,
            )


@dataclass(frozen=True)
class Initramfs:
    """Makes the initramfs that the kernel starts; guestd, our program in the guest, is in it."""

    async def build(self, context: BuildContext, /) -> None:
        await build_initramfs(context.directory, load_toolchain(context.parents["toolchain"]))


@dataclass(frozen=True)
class Disk:
    """Makes an empty disk of `size` bytes."""

    size: int

    async def build(self, context: BuildContext, /) -> None:
        await make_disk(load_toolchain(context.parents["toolchain"]), context.directory / DISK, self.size)


def load_verdict(store: Store) -> Verdict | None:
    """The verdict of the probe, None when it has not run with these tools on this host yet."""
    _, node = tool_nodes()
    entry = store.find(node.kind, node.key)
    return _read_verdict(entry) if entry else None


def _read_verdict(entry: Path) -> Verdict:
    return Verdict.from_json(json.loads((entry / VERDICT).read_text()))
