"""The graph of one Sandboxfile: which content-addressed nodes stand between nothing and a machine that is ready.

    toolchain -> accelerator, image, initramfs, disk -> booted -> packages -> setup[i] -> images -> services

Every guest node is a snapshot of the machine after it, and runs in a clone of the snapshot before it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.build import step as steps
from engine.build.accelerator import Verdict
from engine.build.foundation import GUEST_NEEDS, guest_nodes, tool_nodes
from engine.build.toolchain import toolchain_key
from engine.guest.compose_project import BUILD_ROOT
from engine.plan.graph import Graph, Node
from engine.project.inputs import input_piece
from engine.project.pieces import Piece
from engine.project.tree import opened
from engine.resolve.compose import Compose
from engine.secrets.secrecy import masked_inputs
from engine.state.keys import content_key
from sandboxfile import Loaded
from sandboxfile.positions import render_path
from vmm.snapshot import Shape
from vmm.spec import SPARE_PORTS

UNKNOWN = "not probed yet"
OF_SERVICES = ("images", "services")  # the nodes that only services decide about


@dataclass(frozen=True)
class Chain:
    """The graph and the node whose snapshot `up` restores.

    `contents` are the keys of what services read of the project, by the place in the file that names it; `compose` has
    the same keys.
    """

    graph: Graph
    ready: str
    contents: Mapping[str, str] = field(default_factory=dict)
    compose: Compose | None = None


def make_chain(loaded: Loaded, verdict: Verdict | None, session: steps.Session) -> Chain:
    """The whole graph for a checked file. `verdict` is None while nothing has been probed: keys below are then
    placeholders that match no cache entry. Raises EngineError (a build context that cannot be read)."""
    sandbox, tree = loaded.sandbox, opened(loaded.project)
    nodes = tool_nodes()
    tool_key = nodes[0].key
    base = guest_nodes(tool_key, sandbox.machine.disk, session.build_place)
    nodes += base

    shape = machine_shape(loaded, verdict)
    machine = {name: str(value) for name, value in dataclasses.asdict(shape).items()}
    previous = Node(
        "booted",
        "booted",
        "booted machine with Docker",
        content_key("booted", steps.VERSION, *(node.key for node in base), **machine),
        GUEST_NEEDS,
        {**machine, **{node.id: node.key for node in base}},
        functools.partial(steps.boot, session=session),
        requires_entries=True,
    )
    nodes.append(previous)

    def follow(id: str, kind: str, title: str, inputs: Mapping[str, str], step: steps.Step) -> None:
        nonlocal previous
        previous = Node(
            id,
            kind,
            title,
            content_key(kind, steps.VERSION, previous.key, **inputs),
            (*GUEST_NEEDS, previous.id),
            {**masked_inputs(inputs), "parent": previous.key},
            functools.partial(step.build, session=session, parent=previous.id),
            requires_entries=True,
        )
        nodes.append(previous)

    if sandbox.packages:
        names = sorted(set(sandbox.packages))
        step: steps.Step = steps.Packages(tuple(names))
        title = "1 Debian package" if len(names) == 1 else f"{len(names)} Debian packages"
        follow("packages", "packages", title, {"packages": " ".join(names)}, step)
    for index, entry in enumerate(sandbox.setup):
        described = {"run": entry.run, "user": entry.user, "env": json.dumps(dict(entry.env), sort_keys=True)}
        described["directory"] = session.working_directory()
        pieces = []
        for name in entry.inputs:
            piece = input_piece(tree, name, session.working_directory())
            pieces.append(dataclasses.replace(piece, key=tree.key(piece)))
            described[f"inputs {name}"] = pieces[-1].key
        title = entry.run.strip().splitlines()[0]
        follow(f"setup[{index}]", "setup", title, described, steps.Setup(entry, index, tuple(pieces)))
    contents: dict[str, str] = {}
    compose = None
    if sandbox.services:
        compose = Compose.of(loaded, tree).keyed(tree)
        contents = {render_path(compose.places[piece.target]): piece.key for piece in compose.pieces()}
        images = {"images": compose.image_configuration()}
        if compose.names_images:
            images["project name"] = sandbox.name
        for name, parts in compose.contexts.items():
            images |= {" ".join(filter(None, ("context", name, _further(part, name)))): part.key for part in parts}
        # Compose reads every file it names before it does anything.
        files = {f"file {piece.target}": piece.key for piece in compose.files}
        follow("images", "images", "images of the services", {**images, **files}, steps.Images(compose))
        if compose.early:
            services = {"services": compose.configuration()}
            title = f"{', '.join(compose.early)} up and healthy"
            follow("services", "services", title, services, steps.Services(compose))
    return Chain(Graph(nodes), previous.id, contents, compose)


def _further(piece: Piece, service: str) -> str:
    """Which of the pieces of a service's build it is; nothing for the context itself."""
    return piece.target.removeprefix(str(BUILD_ROOT / service)).removeprefix("+")


def machine_shape(loaded: Loaded, verdict: Verdict | None) -> Shape:
    """What every machine of this file has in common; QEMU's version is the toolchain's, known by its key."""
    machine = loaded.sandbox.machine
    accelerator = verdict.accelerator if verdict else UNKNOWN
    return Shape(accelerator, machine.cpus, machine.memory, toolchain_key()[0], SPARE_PORTS)  # type: ignore[arg-type]
