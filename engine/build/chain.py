"""The graph of one Sandboxfile: which content-addressed nodes stand between nothing and a machine that is ready.

    toolchain -> accelerator, image, initramfs, disk -> booted -> agent -> packages -> setup[i] -> images -> services

Every guest node is a snapshot of the machine after it, and runs in a clone of the snapshot before it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.agents import load_agent, remark_on
from engine.agents.definition import AgentDefinition
from engine.agents.lock import Locked
from engine.agents.packages import Wanted, locked_packages, wanted_package
from engine.build.accelerator import Verdict
from engine.build.foundation import GUEST_NEEDS, guest_nodes, tool_nodes
from engine.build.image.build import Place
from engine.build.nodes import packages
from engine.build.nodes.agent import InstallAgent, action_of
from engine.build.nodes.agent_layer import (
    BY_REGISTRY,
    LAYER_VERSION,
    PACKAGE_VERSION,
    AgentLayer,
    AgentPackage,
    LockedPackages,
    Part,
)
from engine.build.nodes.boot import Boot
from engine.build.nodes.packages import Packages
from engine.build.nodes.services import Images, Services
from engine.build.nodes.setup import Setup
from engine.build.step import VERSION, InGuest, Step
from engine.build.toolchain import toolchain_key
from engine.build.toolchain.recipe import architecture as host_architecture
from engine.guest.compose_project import BUILD_ROOT
from engine.plan.graph import Graph, Node
from engine.project.inputs import input_piece
from engine.project.pieces import Hidden, Piece
from engine.project.tree import ProjectTree, opened
from engine.resolve.compose import Compose
from engine.resolve.endpoints import looks_inside
from engine.resolve.mounts_and_ports import working_directory
from engine.resolve.paths import hidden_in_mounts
from engine.secrets.secrecy import masked_inputs
from engine.state.keys import content_key
from sandboxfile import Endpoint, Loaded, SetupStep
from sandboxfile.positions import render_path
from vmm.snapshot import Shape
from vmm.spec import SPARE_PORTS

UNKNOWN = "not probed yet"
OF_SERVICES = ("images", "services")  # the nodes that depend on the `services` section


@dataclass(frozen=True)
class Chain:
    """The graph of a file. `up` restores the snapshot of the node `ready`; all machines have the same `shape`.

    `contents` maps a place in the file to the key of the content that services read there; the pieces of `compose` have
    the same keys.
    """

    graph: Graph
    ready: str
    shape: Shape
    contents: Mapping[str, str] = field(default_factory=dict)
    compose: Compose | None = None


def make_chain(loaded: Loaded, verdict: Verdict | None, place: Place = "auto") -> Chain:
    """Make the graph for a checked file, and hash the files of the project that it copies.

    `place` is where the guest image is built. `verdict` is None before the accelerators have been probed: then the keys
    of all guest nodes are placeholders that match no cache entry. Raises EngineError for a build context that cannot be
    read.
    """
    sandbox, tree = loaded.sandbox, opened(loaded.project)
    tools = tool_nodes()
    base = guest_nodes(tools[0].key, sandbox.machine.disk, place)
    shape = machine_shape(loaded, verdict)
    links = _Links(sandbox.name, shape, sandbox.endpoints, [*tools, *base])
    links.boot(base)
    if sandbox.agent is not None and sandbox.agent.use is not None:
        links.install(load_agent(sandbox.agent.use), sandbox.agent.version, remark_on(sandbox.agent.use))
    if sandbox.packages:
        names = tuple(sorted(set(sandbox.packages)))
        title = "1 Debian package" if len(names) == 1 else f"{len(names)} Debian packages"
        links.follow("packages", title, {"packages": " ".join(names)}, Packages(names), packages.ENDPOINTS)
    directory, hidden = working_directory(loaded), hidden_in_mounts(loaded)
    for index, entry in enumerate(sandbox.setup):
        pieces = [_keyed(tree, name, directory, hidden) for name in entry.inputs]
        title = entry.run.strip().splitlines()[0]
        described = _describe(entry, directory, pieces)
        links.follow("setup", title, described, Setup(entry, index, directory, tuple(pieces)), id=f"setup[{index}]")
    if not sandbox.services:
        return Chain(Graph(links.nodes), links.last.id, shape)
    compose = Compose.of(loaded, tree).keyed(tree)
    links.follow("images", "images of the services", _image_inputs(compose, sandbox.name), Images(compose))
    if compose.early:
        title = f"{', '.join(compose.early)} up and healthy"
        inputs = {"services": compose.configuration()}
        if links.certified:
            inputs["certificate"] = "of the sandbox"
        links.follow("services", title, inputs, Services(compose))
    contents = {render_path(compose.places[piece.target]): piece.key for piece in compose.pieces()}
    return Chain(Graph(links.nodes), links.last.id, shape, contents, compose)


@dataclass
class _Links:
    """Guest nodes in a row: each runs in a clone of the machine of the node before it."""

    name: str
    shape: Shape
    endpoints: tuple[Endpoint, ...]
    nodes: list[Node]

    @property
    def certified(self) -> bool:
        return looks_inside(self.endpoints)

    @property
    def last(self) -> Node:
        return self.nodes[-1]

    def boot(self, base: list[Node]) -> None:
        machine = {name: str(value) for name, value in dataclasses.asdict(self.shape).items()}
        key = content_key("booted", VERSION, *(node.key for node in base), **machine)
        inputs = {**machine, **{node.id: node.key for node in base}}
        self._add("booted", "booted", "booted machine with Docker", key, GUEST_NEEDS, inputs, self._work(Boot(), ()))

    def install(self, definition: AgentDefinition, version: str | None, remark: str = "") -> None:
        """Add the agent, with a remark about where its definition is.

        It comes before all that is the project's own, so that all projects share its disk.
        """
        chosen, architecture = version or definition.install.version, host_architecture().debian
        packages: list[Node] = []
        parts, actions = [], []
        for step in definition.install.steps:
            locked = locked_packages(definition, step.npm, version, architecture) if step.npm is not None else ()
            wanted = wanted_package(definition, step, version, architecture)
            if step.npm is not None and locked:
                packages.append(self._locked(step.npm.package, locked, len(packages)))
                of_lock: dict[str, Any] = {"locked": locked, "main": step.npm.package, "without": step.npm.without}
                parts.append(Part(packages[-1].id, step.npm.directory, **of_lock))
                continue
            if wanted is not None:
                packages.append(self._package(wanted, len(packages)))
            if step.unpack is not None:
                parts.append(Part(packages[-1].id, step.unpack.into, step.unpack.links))
                continue
            known = architecture if chosen == definition.install.version else None
            actions.append(action_of(step, packages[-1].id if wanted is not None else None, known))
        layer = self._layer(tuple(parts), packages) if parts else None
        needed = [*packages, *([layer] if layer else [])]
        debian = definition.install.packages
        work = InstallAgent(chosen, architecture, debian, tuple(actions), layer.id if layer else None)
        inputs = {"agent": definition.name, "version": chosen, "how": content_key(work.describe())}
        inputs |= {"package": "\n".join(package.title for package in packages)} if packages else {}
        title = f"{definition.title} {chosen}" + (f" ({remark})" if remark else "")
        self.follow("agent", title, inputs, work, work.endpoints, needs=[(node.id, node.key) for node in needed])

    def _package(self, wanted: Wanted, index: int) -> Node:
        inputs = {"package": wanted.name, "version": wanted.version, "integrity": wanted.integrity or BY_REGISTRY}
        return self._fetched("agent-package", wanted.label, inputs, AgentPackage(wanted), index)

    def _locked(self, main: str, packages: tuple[Locked, ...], index: int) -> Node:
        digests = content_key("lock", *(f"{package.where} {package.integrity}" for package in packages))
        title, inputs = f"{len(packages)} packages of {main}", {"packages": str(len(packages)), "digests": digests}
        return self._fetched("agent-packages", title, inputs, LockedPackages(packages), index)

    def _fetched(
        self, kind: str, title: str, inputs: Mapping[str, str], work: AgentPackage | LockedPackages, index: int
    ) -> Node:
        image = next(node for node in self.nodes if node.id == "image")
        key = content_key(kind, PACKAGE_VERSION, **inputs)
        # The image's npm says which registry there is, where the host has none. The package is the same from any.
        return self._before_last(Node(f"package[{index}]", kind, title, key, (image.id,), inputs, work))

    def _layer(self, parts: tuple[Part, ...], packages: list[Node]) -> Node:
        needs = [next(node for node in self.nodes if node.id == "toolchain"), *packages]
        inputs = {"parts": content_key("parts", *(json.dumps(part.describe()) for part in parts))}
        key = content_key("agent-layer", LAYER_VERSION, *(node.key for node in needs), **inputs)
        title = f"layer with {' and '.join(part.into for part in parts)}"
        ids = tuple(node.id for node in needs)
        return self._before_last(Node("layer", "agent-layer", title, key, ids, inputs, AgentLayer(parts)))

    def _before_last(self, node: Node) -> Node:
        self.nodes.insert(self.nodes.index(self.last), node)
        return node

    def follow(
        self,
        kind: str,
        title: str,
        inputs: Mapping[str, str],
        step: Step,
        endpoints: tuple[Endpoint, ...] | None = None,
        id: str | None = None,
        needs: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Add the node of `step` after the last one. The step may reach `endpoints`; default: those of the file.

        `needs` are (id, key) of nodes whose entries it takes something from.
        """
        before = self.last
        work = self._work(step, self.endpoints if endpoints is None else endpoints, before.id)
        key = content_key(kind, VERSION, before.key, *(key for _, key in needs), **inputs)
        shown = {**masked_inputs(inputs), "parent": before.key}
        self._add(id or kind, kind, title, key, (*GUEST_NEEDS, *(name for name, _ in needs), before.id), shown, work)

    def _work(self, step: Step, endpoints: tuple[Endpoint, ...], parent: str | None = None) -> InGuest:
        services = step.compose.early if isinstance(step, Services) else ()
        certified = self.certified and parent is not None
        return InGuest(step, self.name, self.shape, endpoints, parent, certified, services)

    def _add(
        self, id: str, kind: str, title: str, key: str, needs: tuple[str, ...], inputs: Mapping[str, str], work: InGuest
    ) -> None:
        self.nodes.append(Node(id, kind, title, key, needs, inputs, work, requires_entries=True))


def _keyed(tree: ProjectTree, name: str, directory: str, hidden: tuple[Hidden, ...]) -> Piece:
    piece = input_piece(tree, name, directory, hidden)
    return dataclasses.replace(piece, key=tree.key(piece))


def _describe(entry: SetupStep, directory: str, pieces: list[Piece]) -> dict[str, str]:
    described = {"run": entry.run, "user": entry.user, "env": json.dumps(dict(entry.env), sort_keys=True)}
    described["directory"] = directory
    return described | {f"inputs {name}": piece.key for name, piece in zip(entry.inputs, pieces, strict=True)}


def _image_inputs(compose: Compose, project_name: str) -> dict[str, str]:
    """The inputs of the node `images`: the keys of services that name an image, and everything that Compose reads.

    Compose reads all of its files before it does anything.
    """
    inputs = {"images": compose.image_configuration()}
    if compose.names_images:
        inputs["project name"] = project_name
    for name, parts in compose.contexts.items():
        inputs |= {" ".join(filter(None, ("context", name, _further(part, name)))): part.key for part in parts}
    return inputs | {f"file {piece.target}": piece.key for piece in compose.files}


def _further(piece: Piece, service: str) -> str:
    """Which further piece of a service's build this is; "" for the build context itself."""
    return piece.target.removeprefix(str(BUILD_ROOT / service)).removeprefix("+")


def machine_shape(loaded: Loaded, verdict: Verdict | None) -> Shape:
    """What all machines of this file have in common. The key of the toolchain stands for QEMU's version."""
    machine = loaded.sandbox.machine
    accelerator = verdict.accelerator if verdict else UNKNOWN
    return Shape(accelerator, machine.cpus, machine.memory, toolchain_key()[0], SPARE_PORTS)  # type: ignore[arg-type]
