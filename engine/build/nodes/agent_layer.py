"""What an agent is made of, as a read-only disk that all of its sandboxes share.

Its packages are unpacked here, as data, and put into an erofs file system. Unpacking them in a guest takes minutes
where the CPU is emulated, and each file that a guest writes is in a disk of its own.
"""

from __future__ import annotations

import asyncio
import json
import posixpath
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from engine.agents.lock import Locked
from engine.agents.packages import Wanted
from engine.build.context import BuildContext
from engine.build.nodes.package_tree import PackageTree, link_programs
from engine.build.npm_registry import fetch_package
from engine.build.toolchain import load_toolchain
from engine.guest.layer import PLACE
from engine.resolve.endpoints import Registries
from engine.resolve.registries import resolve_group
from engine.state.trees import remove_tree
from vmm.jail import tool_jail
from vmm.private import UMASK
from vmm.process import run

PACKAGE_VERSION = "1"  # raise it when the same package is kept in another form
LAYER_VERSION = "1"  # raise it when the same packages become another layer
PACKAGE, RECORD = "package.tgz", "package.json"
BY_REGISTRY = "the registry's"  # the digest of a package that nobody named before
LAYER, PROGRAMS = "layer.erofs", "programs.json"
Result = TypeVar("Result")
AT_ONCE = 8  # downloads
MKFS_S = 900.0
_BLANK = "00000000-0000-0000-0000-000000000000"  # the same packages make the same bytes


@dataclass(frozen=True)
class AgentPackage:
    """Fetch a package of the npm registry onto this host, and check its digest. `RECORD` says which one it was."""

    wanted: Wanted

    async def build(self, context: BuildContext, /) -> None:
        registry, target = await _registry(context), context.directory / PACKAGE
        integrity = await _in_thread(
            lambda given_up: fetch_package(self.wanted, registry, target, context.log, given_up)
        )
        record = {"package": self.wanted.name, "version": self.wanted.version, "integrity": integrity}
        (context.directory / RECORD).write_text(json.dumps(record) + "\n")


@dataclass(frozen=True)
class LockedPackages:
    """Fetch all packages of a lock file onto this host, and check their digests. They are N.tgz, in order."""

    packages: tuple[Locked, ...]

    async def build(self, context: BuildContext, /) -> None:
        registry = await _registry(context)
        await _in_thread(lambda given_up: self._fetch(context, registry, given_up))
        record = [asdict(package) for package in self.packages]
        (context.directory / RECORD).write_text(json.dumps(record) + "\n")

    def _fetch(self, context: BuildContext, registry: str, given_up: threading.Event) -> None:
        def fetch(numbered: tuple[int, Locked]) -> None:
            number, package = numbered
            wanted = Wanted(package.name, package.version, package.integrity)
            fetch_package(wanted, registry, context.directory / f"{number}.tgz", lambda line: None, given_up)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                for done, _ in enumerate(pool.map(fetch, enumerate(self.packages)), start=1):
                    if done % 50 == 0 or done == len(self.packages):
                        context.log(f"{done} of {len(self.packages)} packages")
            except BaseException:
                given_up.set()  # the others end, and the first error is the one that is told
                pool.shutdown(cancel_futures=True)
                raise


@dataclass(frozen=True)
class Part:
    """What one step of an installation puts into the layer: packages of the node `node`, into the guest's `into`.

    `links` are programs and where they are in the package. With `locked` it is a list of packages, and the programs are
    those of the package `main`, which comes without the files `without`.
    """

    node: str
    into: str
    links: Mapping[str, str] = field(default_factory=dict)
    locked: tuple[Locked, ...] = ()
    main: str = ""
    without: tuple[str, ...] = ()

    @property
    def directory(self) -> str:
        """Its place in the layer."""
        return posixpath.basename(self.into)

    def describe(self) -> list[Any]:
        """What the layer depends on besides the packages, as plain data."""
        return [self.into, dict(self.links), self.main, self.without, [package.where for package in self.locked]]

    def unpack(self, tree: PackageTree, entry: Path) -> Iterator[tuple[str, str]]:
        """Unpack the packages in the cache entry. Yields programs, and their files relative to the layer."""
        if not self.locked:
            tree.unpack(entry / PACKAGE, self.directory)
            for name, pattern in self.links.items():
                yield name, tree.find(self.directory, pattern)
        for number, package in enumerate(self.locked):
            tree.unpack(entry / f"{number}.tgz", posixpath.join(self.directory, package.where), strip=True)
        for name in self.without:
            tree.remove(posixpath.join(self.directory, "node_modules", self.main, name))
        for package in self.locked:
            where = posixpath.join(self.directory, package.where)
            for name, file in link_programs(tree, where, dict(package.programs)):
                if package.where == f"node_modules/{self.main}":
                    yield name, file


@dataclass(frozen=True)
class AgentLayer:
    """Make the layer of `parts`. `PROGRAMS` says which links the guest needs."""

    parts: tuple[Part, ...]

    async def build(self, context: BuildContext, /) -> None:
        root = context.directory / "tree"
        links = await _in_thread(lambda given_up: self._unpack(context, PackageTree(root, given_up)))
        tools = load_toolchain(context.parents["toolchain"])
        context.log("making the layer")
        options = ["--quiet", "--all-root", "-T0", "-x-1", f"-U{_BLANK}"]
        command = tools.mkfs_erofs.command(*options, str(context.directory / LAYER), str(root))
        jail = tool_jail(tools.mkfs_erofs, read=(root,), fill=(context.directory,))
        await run(command, env=tools.mkfs_erofs.env, timeout_s=MKFS_S, umask=UMASK, jail=jail)
        await asyncio.to_thread(remove_tree, root)
        (context.directory / PROGRAMS).write_text(json.dumps(links) + "\n")

    def _unpack(self, context: BuildContext, tree: PackageTree) -> dict[str, str]:
        links: dict[str, str] = {}
        for part in self.parts:
            context.log(f"unpacking {part.into}")
            links[part.into] = posixpath.join(PLACE, part.directory)
            for name, file in part.unpack(tree, context.parents[part.node]):
                tree.make_executable(file)
                links[f"/usr/local/bin/{name}"] = posixpath.join(PLACE, file)
        tree.finish()
        return links


def read_integrity(entry: Path) -> str | None:
    """The digest of the package in a cache entry of `AgentPackage`."""
    try:
        return str(json.loads((entry / RECORD).read_text())["integrity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_links(entry: Path) -> dict[str, str]:
    """The links that the guest needs, from their paths to what they lead to."""
    links: dict[str, str] = json.loads((entry / PROGRAMS).read_text())
    return links


async def _registry(context: BuildContext) -> str:
    guest_clients = Registries.of_image(context.parents["image"]).guest_clients
    return (await asyncio.to_thread(resolve_group, "npm", guest_clients=guest_clients)).urls[0]


async def _in_thread(work: Callable[[threading.Event], Result]) -> Result:
    """Call `work` in a thread. Its event is set when nobody waits any more: it writes into our directory until then."""
    given_up = threading.Event()
    working = asyncio.create_task(asyncio.to_thread(work, given_up))
    try:
        return await asyncio.shield(working)
    finally:
        given_up.set()
        await asyncio.gather(working, return_exceptions=True)
