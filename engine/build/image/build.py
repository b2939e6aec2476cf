"""Build the guest image: run the recipe on this host or in a builder machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.build.image.build_root import make_build_root
from engine.build.image.builder import run_in_builder
from engine.build.image.native import can_build_natively, run_natively
from engine.build.image.recipe import PACKAGES, ROOT, ImageError
from engine.cache.disk_space import making
from engine.resolve.clients import GUEST_CLIENTS
from engine.resolve.debian import DebianMirrors, debian_mirrors
from vmm.spec import Accelerator
from vmm.tools import Tools

Place = Literal["auto", "native", "builder"]
NEEDED_BYTES = 4 * 1024**3  # the most that the directory takes while the image is made


@dataclass(frozen=True)
class Image:
    """A built guest image: its file system, (name, version) of its packages, and the registries of its clients."""

    root: Path
    packages: tuple[tuple[str, str], ...]
    clients: dict[str, Any]


async def build_image(
    directory: Path,
    tools: Tools,
    *,
    progress: Callable[[str], None],
    place: Place = "auto",
    mirrors: DebianMirrors | None = None,
    accelerator: Accelerator = "tcg",
    sockets: Path | None = None,
) -> Image:
    """Fill the empty `directory` with the guest image.

    Takes two minutes on this host (`native`), and ten in an emulated builder machine. `auto` uses a builder machine
    only where `native` is impossible. `accelerator` and `sockets` are for the builder machine; `sockets` is a private
    directory with a short path (default: a new one). Raises ImageError or ToolchainError when the mirror cannot be
    reached, a package cannot be installed, or the disk is full.
    """
    mirrors = mirrors or debian_mirrors()
    directory = directory.resolve()
    with making("the guest image", directory, NEEDED_BYTES, ImageError):
        if place == "auto":
            place = "native" if await can_build_natively() else "builder"
        root, work, output = (directory / "work" / name for name in ("buildroot", "scratch", "out"))
        for path in (root, work, output):
            path.mkdir(parents=True)
        await make_build_root(root, directory / "work/apt", mirrors, progress=progress)
        # The kernel itself stays in the toolchain, from where it is booted: only its modules go into the image.
        shutil.copytree(tools.modules, root / "build/modules" / tools.kernel_release, symlinks=True)
        if place == "native":
            progress("building the guest image on this machine")
            await run_natively(root, work, output, progress=progress)
        else:
            progress("building the guest image in a builder machine, without privileges")
            await run_in_builder(
                root, work, output, tools, mirrors, progress=progress, accelerator=accelerator, sockets=sockets
            )
        for name in (PACKAGES, GUEST_CLIENTS, ROOT):
            (output / name).replace(directory / name)
        shutil.rmtree(directory / "work")
    return load_image(directory)


def load_image(directory: Path) -> Image:
    """The image that `build_image` made in `directory`. Raises ImageError when there is none."""
    try:
        lines = (directory / PACKAGES).read_text().splitlines()
        packages = tuple((name, version) for name, _, version in (line.partition("\t") for line in lines))
        clients = json.loads((directory / GUEST_CLIENTS).read_text())
    except (OSError, ValueError) as error:
        raise ImageError(f"there is no complete guest image in {directory}", details=str(error)) from error
    return Image(directory / ROOT, packages, clients)
