"""One sandbox as a picture: what is built once, and what each `up` puts on top of it."""

from __future__ import annotations

from collections.abc import Iterator

from engine.drawing.picture import Picture, PicturePart
from engine.plan.build_plan import Plan
from engine.plan.graph import Graph
from engine.report.text import clean_line
from sandboxfile import Endpoint, Loaded, Sandbox
from sandboxfile.compose.services import dependencies, published_ports, services_needing_mounts

# Nodes of the build keep the ids that they have in the plan, so no other part has one of these.
_GATEWAY, _RESTORE, _IDENTITY, _AGENT = "gateway", "restore", "identity", "agent:running"


def draw_whole(loaded: Loaded, graph: Graph, ready: str, plan: Plan) -> Picture:
    """The picture of the sandbox that `graph` builds; `up` restores the snapshot of the node `ready`."""
    sandbox = loaded.sandbox
    parts = [*_built(graph, plan), *_network(sandbox), *_restored(ready), *_inside(sandbox)]
    return Picture(clean_line(sandbox.name), tuple(parts))


def _built(graph: Graph, plan: Plan) -> Iterator[PicturePart]:
    for node in graph.order():
        step = plan.step(node.id)
        yield PicturePart(node.id, node.kind, clean_line(node.title), step.action, node.needs, clean_line(step.reason))


def _network(sandbox: Sandbox) -> Iterator[PicturePart]:
    """The secrets, the endpoints and the gateway, through which the guest reaches every endpoint."""
    for name, secret in sandbox.secrets.items():
        given = secret.model_dump(exclude_defaults=True, by_alias=True)
        source = ", ".join(f"{key} {value}" for key, value in given.items()) or "kept by `sandbox secret`"
        yield PicturePart(f"secret:{name}", "secret", name, "declared", (), clean_line(source))
    endpoints = []
    for index, endpoint in enumerate(sandbox.endpoints):
        title, note = _describe(endpoint)
        needs = (f"secret:{endpoint.secret}",) if endpoint.secret else ()
        endpoints.append(PicturePart(f"endpoint:{index}", "endpoint", title, "declared", needs, note))
    yield from endpoints
    title = "the only road to the network" if endpoints else "no road to the network"
    yield PicturePart(_GATEWAY, "gateway", title, "each up", tuple(part.id for part in endpoints))


def _describe(endpoint: Endpoint) -> tuple[str, str]:
    port = f":{endpoint.port}" if endpoint.port else ""
    repositories = f"github {', '.join(endpoint.github)}" if endpoint.github else None
    title = f"{endpoint.group or endpoint.host or repositories}{port}"
    rules = [*endpoint.access, f"push {', '.join(endpoint.push)}" if endpoint.push else "", *endpoint.changes]
    rules += [f"as {endpoint.as_}" if endpoint.as_ else "", endpoint.protocol or "", *endpoint.methods, *endpoint.paths]
    rules += [f"with the secret {endpoint.secret}" if endpoint.secret else ""]
    words = ["group" if endpoint.group else "", *rules]
    denied = "deny " if endpoint.deny else ""
    return clean_line(f"{denied}{title}"), clean_line(" ".join(filter(None, words)))


def _restored(ready: str) -> Iterator[PicturePart]:
    yield PicturePart(_RESTORE, "restore", f"machine restored from {ready}", "each up", (ready, _GATEWAY))
    yield PicturePart(_IDENTITY, "identity", "hostname, clock, keys, environment", "each up", (_RESTORE,))


def _inside(sandbox: Sandbox) -> Iterator[PicturePart]:
    mounts = [
        PicturePart(
            f"mount:{index}", "mount", clean_line(f"{mount.source} -> {mount.target}"), "each up", (_IDENTITY,), note
        )
        for index, mount in enumerate(sandbox.mounts)
        for note in [clean_line(_mount_note(mount.mode, mount.hide, mount.local))]
    ]
    yield from mounts
    services = list(_services(sandbox, tuple(part.id for part in mounts)))
    yield from services
    for name, host, guest, protocol in published_ports(sandbox.services):
        if host is None or protocol != "tcp":
            continue
        # Compose publishes the port in the guest, and the host's loopback offers it under the same number.
        title = clean_line(f"127.0.0.1:{host} -> {name}:{guest}")
        yield PicturePart(f"port:{name}:{host}", "port", title, "each up", (f"service:{name}",))
    for index, port in enumerate(sandbox.ports):
        host_port = port.host or "(a free port)"
        yield PicturePart(f"port:{index}", "port", f"127.0.0.1:{host_port} -> {port.guest}", "each up", (_IDENTITY,))
    agent = sandbox.agent
    if agent is not None:
        needs = tuple(part.id for part in (*mounts, *services)) or (_IDENTITY,)
        title = agent.use or " ".join([*(agent.command or ()), *agent.args])
        # The node that has installed it is called `agent`, in the plan as well: this is the one that runs.
        yield PicturePart(_AGENT, "agent", clean_line(title), "each up", needs, clean_line(agent.version or ""))


def _mount_note(mode: str, hide: tuple[str, ...], local: tuple[str, ...]) -> str:
    hidden = f"without {', '.join(hide)}" if hide else ""
    kept = f"{', '.join(local)} on the guest's disk" if local else ""
    return "; ".join(filter(None, [{"rw": "live", "ro": "read-only", "clone": "a copy"}[mode], hidden, kept]))


def _services(sandbox: Sandbox, mounts: tuple[str, ...]) -> Iterator[PicturePart]:
    """The services, each after those that it waits for. Services that need no mount run in the snapshot already."""
    late = services_needing_mounts(sandbox.services, sandbox.mounts)
    waits = dependencies(sandbox.services)
    left = list(sandbox.services)
    done: set[str] = set()
    while left:
        name = next(name for name in left if done.issuperset(waits[name]))
        left.remove(name)
        done.add(name)
        needs = tuple(f"service:{other}" for other in waits[name]) + (mounts if name in late else (_IDENTITY,))
        note = "starts after the mounts" if name in late else "healthy in the snapshot"
        yield PicturePart(f"service:{name}", "service", clean_line(name), "each up", needs, note)
